"""Leader election with a Lease, as client-go has it.

    election = LeaderElection(api, namespace="keyferry", name="keyferry-sync", ...)
    await election.run(work)   # runs `work()` whenever this process leads, until cancelled

A candidate takes over a Lease whose record did not change for its duration, by the candidate's own
monotonic clock; the times in the record are never compared with a clock. A leader gives up earlier,
after the renew deadline, counted from the start of its last successful request. So two leaders
overlap only if work goes on for longer than the difference after it was cancelled. Work checks
`is_leader` before each write, which also covers a process that was paused.

Source: https://pkg.go.dev/k8s.io/client-go/tools/leaderelection
"""

from __future__ import annotations

import asyncio
import random
import uuid
from contextlib import contextmanager, suppress
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from keyferry.errors import StoreError, StoreUnavailableError
from keyferry.kubernetes.api.api_errors import ApiConflictError, ApiNotFoundError, ApiStatusError
from keyferry.kubernetes.api.syncs.resources import LeaseResource
from keyferry.kubernetes.syncs.lease import (
    NO_RECORD,
    LeaseRecord,
    LeaseTiming,
    next_record,
    parse_lease,
    released_record,
    with_record,
)
from keyferry.telemetry.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from keyferry.aio.clock import Clock
    from keyferry.kubernetes.api.resources import Resource
    from keyferry.kubernetes.object_codec import Manifest

    Work = Callable[[], Coroutine[Any, Any, None]]

T = TypeVar("T")

RELEASE_SECONDS = 3.0
"""How long a shutdown waits for the release of the Lease."""

_log = get_logger("leader")


class Leadership(Protocol):
    """Decides which of several processes works."""

    on_change: list[Callable[[bool], None]]
    """Called with whether this process leads, whenever that changes."""

    @property
    def is_leader(self) -> bool:
        """Whether this process certainly leads now. Check it before each write."""

    async def run(self, work: Work) -> None:
        """Run `work()` whenever this process leads; cancel it when it no longer does.

        Returns when `work()` returns, and raises what it raises.
        """


class SoleLeader:
    """Implements `Leadership` for a single process: it always leads."""

    def __init__(self) -> None:
        self.on_change: list[Callable[[bool], None]] = []

    @property
    def is_leader(self) -> bool:
        """Always true."""
        return True

    async def run(self, work: Work) -> None:
        """Run `work()`."""
        for notify in self.on_change:
            notify(True)
        await work()


class LeaseApi(Protocol):
    """The calls of `KubeApi` that an election makes."""

    async def find(self, kind: type[Resource], namespace: str, name: str) -> Manifest | None:
        """Return the object, or None."""

    async def create(self, kind: type[Resource], namespace: str, manifest: Manifest) -> Manifest:
        """Create an object; `ApiConflictError` if it exists."""

    async def replace(
        self, kind: type[Resource], namespace: str, name: str, manifest: Manifest
    ) -> Manifest:
        """Replace an object; `ApiConflictError` if it changed."""


def new_identity(name: str) -> str:
    """Return an identity of this process, which a restart in the same pod does not share.

    Args:
        name: of the pod or the machine, for people.
    """
    return f"{name}_{uuid.uuid4()}"


class _Renewal(Enum):
    """The result of one attempt to renew the Lease."""

    RENEWED = auto()
    FAILED = auto()
    TAKEN = auto()
    """Another process holds it."""


class LeaderElection:
    """Implements `Leadership` with a Lease.

    Args:
        api: the Kubernetes API.
        namespace: of the Lease.
        name: of the Lease.
        identity: differs for each candidate and each start of one; see `new_identity`.
        clock: reads the time, and waits.
        timing: the same for all candidates.
        jitter: returns a number from 0 to 1, so that candidates do not retry at the same time.
    """

    def __init__(
        self,
        api: LeaseApi,
        *,
        namespace: str,
        name: str,
        identity: str,
        clock: Clock,
        timing: LeaseTiming = LeaseTiming(),  # noqa: B008 - it is immutable
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._api = api
        self._namespace = namespace
        self._name = name
        self.identity = identity
        self._clock = clock
        self._timing = timing
        self._jitter = jitter
        self._manifest: Manifest | None = None
        """The Lease as it was last read or written; None before that."""
        self._observed = NO_RECORD
        self._observed_at = clock.monotonic()
        """When the record was first seen as it is."""
        self._renewed_at: float | None = None
        """When the last successful write was started; None if this process does not lead."""
        self._written_at = self._observed_at
        """When the last successful write was started."""
        self._is_unanswered = False
        """Whether the last write got no answer, so that the API server may have executed it."""
        self._is_working = False
        self._has_failed = False
        self.on_change: list[Callable[[bool], None]] = []

    @property
    def is_leader(self) -> bool:
        """Whether this process certainly leads now: nobody else can hold the Lease."""
        return self._remaining() > 0

    @property
    def holder(self) -> str:
        """The identity of the last known leader; "" without one."""
        return self._observed.holder

    async def run(self, work: Work) -> None:
        """Run `work()` whenever this process leads, until cancelled.

        When it is cancelled, `work()` ends before the Lease is released.
        """
        try:
            while True:
                await self._acquire()
                if await self._lead(work):
                    return
        finally:
            if not self._is_working:  # cancelled twice: other processes wait until it expires
                await self.release()

    async def release(self) -> None:
        """Release the Lease if this process holds it, so that another one takes over at once."""
        manifest = None if self._renewed_at is None else self._manifest
        if manifest is None and not self._is_unanswered:
            return
        self._set_renewed(None)
        try:
            released = await self._within(RELEASE_SECONDS, self._release_held(manifest))
        except StoreError as error:
            _log.warning("failed to release the lease", error=str(error))
            return
        if released is None:
            problem = f"the Kubernetes API did not respond within {RELEASE_SECONDS:g} s"
            _log.warning("failed to release the lease", error=problem)
        elif released:
            _log.info("lease released", lease=self._name)

    async def _release_held(self, manifest: Manifest | None) -> bool:
        """Release the Lease; read it first if it has changed.

        An acquisition or a renewal that was cancelled may have been written.

        Args:
            manifest: the Lease that this process holds; None if it only may hold it.

        Returns:
            False if it does not hold it.
        """
        if manifest is not None:
            with suppress(ApiConflictError):
                await self._write_released(manifest)
                return True
        found = await self._api.find(LeaseResource, self._namespace, self._name)
        if found is None or parse_lease(found).holder != self.identity:
            return False
        await self._write_released(found)
        return True

    async def _write_released(self, manifest: Manifest) -> None:
        await self._write(manifest, released_record(parse_lease(manifest), now=self._clock.wall()))

    # --- acquiring -------------------------------------------------------------------------------

    async def _acquire(self) -> None:
        """Wait until this process holds the Lease."""
        while True:
            attempt = self._try_reporting(self._take_or_renew)
            if await self._within(self._timing.renew_deadline, attempt) is _Renewal.RENEWED:
                self._set_renewed(self._written_at)
                if self.is_leader:
                    _log.info("became the leader", lease=self._name, identity=self.identity)
                    return
            await self._clock.sleep(self._pause())

    def _pause(self) -> float:
        """Return the seconds until the next attempt: at the latest when the Lease expires."""
        pause = self._timing.retry * (1 - self._jitter() / 2)
        expires_in = self._expires_in()
        return min(pause, expires_in) if expires_in > 0 else pause

    def _expires_in(self) -> float:
        """Return the seconds until another holder's Lease expires, by the clock of this process."""
        if self._observed.holder in {"", self.identity}:
            return 0.0
        seconds = self._observed.seconds or self._timing.duration
        return self._observed_at + seconds - self._clock.monotonic()

    async def _take_or_renew(self) -> _Renewal:
        """Read the Lease, and take it if it is free, expired, or held by this process."""
        found = await self._api.find(LeaseResource, self._namespace, self._name)
        if found is not None:
            self._observe(found)
        if self._expires_in() > 0:  # also if the Lease was deleted: its holder may not know yet
            return _Renewal.TAKEN
        if found is None:
            await self._create()
        else:
            await self._renew(found)
        return _Renewal.RENEWED

    # --- leading ---------------------------------------------------------------------------------

    async def _lead(self, work: Work) -> bool:
        """Run `work()` until it ends, or this process no longer leads.

        Returns:
            Whether it ended by itself.
        """
        self._is_working = True
        working = asyncio.ensure_future(work())
        renewing = asyncio.ensure_future(self._renew_until_lost())
        try:
            await asyncio.wait((working, renewing), return_when=asyncio.FIRST_COMPLETED)
            ended = working.done()
            if renewing.done():
                renewing.result()  # an internal error
            return ended
        finally:
            # If this task was cancelled, the Lease is still renewed until the work has ended.
            try:
                await _end(working)
                self._is_working = False
            finally:
                await _end(renewing)
            if not working.cancelled():
                working.result()

    async def _renew_until_lost(self) -> None:
        """Renew the Lease until another process holds it, or the renew deadline has passed."""
        reason = "could not be renewed in time"
        await self._clock.sleep(self._timing.retry)
        while (remaining := self._remaining()) > 0:
            attempt = self._try_reporting(self._renew_held)
            result = await self._within(remaining, attempt)
            pause = self._timing.retry / 2
            if result is _Renewal.RENEWED:
                self._set_renewed(self._written_at)
                pause = self._timing.retry
            elif result is _Renewal.TAKEN:
                reason = "is held by another process"
                break
            await self._clock.sleep(max(min(pause, self._remaining()), 0.0))
        _log.warning("no longer the leader: the lease " + reason, lease=self._name)
        self._set_renewed(None)

    async def _renew_held(self) -> _Renewal:
        """Renew the Lease with one request; read it if somebody else has changed it."""
        if self._manifest is not None:
            try:
                await self._renew(self._manifest)
            except (ApiConflictError, ApiNotFoundError):
                pass
            else:
                return _Renewal.RENEWED
        return await self._take_or_renew()

    def _remaining(self) -> float:
        """Return the seconds for which this process certainly leads."""
        if self._renewed_at is None:
            return 0.0
        return self._renewed_at + self._timing.renew_deadline - self._clock.monotonic()

    def _set_renewed(self, at: float | None) -> None:
        was_leader = self._renewed_at is not None
        self._renewed_at = at
        if was_leader != (at is not None):
            for notify in self.on_change:
                notify(at is not None)

    # --- requests --------------------------------------------------------------------------------

    async def _renew(self, manifest: Manifest) -> None:
        record = next_record(
            parse_lease(manifest),
            self.identity,
            seconds=self._timing.duration,
            now=self._clock.wall(),
        )
        await self._write(manifest, record)

    async def _create(self) -> None:
        metadata: Manifest = {"namespace": self._namespace, "name": self._name}
        record = next_record(
            NO_RECORD, self.identity, seconds=self._timing.duration, now=self._clock.wall()
        )
        manifest = with_record({"metadata": metadata}, record)
        started = self._clock.monotonic()
        with self._writing():
            self._observe(await self._api.create(LeaseResource, self._namespace, manifest))
        self._written_at = started

    async def _write(self, manifest: Manifest, record: LeaseRecord) -> None:
        started = self._clock.monotonic()
        with self._writing():
            self._observe(
                await self._api.replace(
                    LeaseResource, self._namespace, self._name, with_record(manifest, record)
                )
            )
        self._written_at = started

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Record whether the API server answered the write in the block."""
        self._is_unanswered = True
        try:
            yield
        except ApiStatusError as error:
            self._is_unanswered = isinstance(error, StoreUnavailableError)
            raise
        self._is_unanswered = False

    def _observe(self, manifest: Manifest) -> None:
        """Remember the Lease, and when its record changed."""
        self._manifest = manifest
        record = parse_lease(manifest)
        if record != self._observed:
            self._observed = record
            self._observed_at = self._clock.monotonic()

    async def _try_reporting(
        self, attempt: Callable[[], Coroutine[Any, Any, _Renewal]]
    ) -> _Renewal:
        """Return the result of an attempt; log the first failure of several in a row."""
        try:
            result = await attempt()
        except ApiConflictError:
            return _Renewal.FAILED  # another candidate was faster
        except StoreError as error:
            log = _log.debug if self._has_failed else _log.warning
            log("failed to read or write the lease", lease=self._name, error=str(error))
            self._has_failed = True
            return _Renewal.FAILED
        self._has_failed = False
        return result

    async def _within(self, seconds: float, work: Coroutine[Any, Any, T]) -> T | None:
        """Return the result of `work`; cancel it and return None after `seconds` of the clock."""
        working = asyncio.ensure_future(work)
        timer = asyncio.ensure_future(self._clock.sleep(seconds))
        try:
            await asyncio.wait((working, timer), return_when=asyncio.FIRST_COMPLETED)
            return working.result() if working.done() else None
        finally:
            await _end(working)
            await _end(timer)


async def _end(task: asyncio.Future[Any]) -> None:
    """Cancel a task, and wait until it has ended."""
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.exception()  # read, so that the loop does not log it as lost
