"""Runs parse jobs in parsers, one at a time in each, with a limit on CPU time."""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict, deque
from contextlib import suppress
from hashlib import blake2b
from secrets import token_bytes
from typing import TYPE_CHECKING, Any, Self, TypeVar

import msgspec
from msgspec import Struct

from keyferry.aio.tasks import spawn, start_quietly
from keyferry.errors import InternalError, KeyferryError, ObjectUnusableError
from keyferry.formats.bounded_dict import BoundedDict
from keyferry.isolation.channel import Channel, ChannelClosedError
from keyferry.isolation.messages import encode_body
from keyferry.isolation.methods import RUN_JOB, JobCall
from keyferry.isolation.parser import JOB_CPU_SECONDS
from keyferry.isolation.watchdog import Verdict, WatchdogLimits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from keyferry.aio.clock import Clock
    from keyferry.aio.jobs import ParseJob
    from keyferry.isolation.child import ChildSupervisor
    from keyferry.isolation.spawner import ChildProcess

A = TypeVar("A")
R = TypeVar("R")

IDLE_SECONDS = 300.0
"""A parser ends after this time without a job, because what it parsed stays in its memory."""
MAX_WAITING_PER_TENANT = 1000
MAX_JOB_BYTES = 16 * 1024 * 1024
_REMEMBERED_SECONDS = 600.0
"""How long a job that exceeded the limit is refused at once, and its tenant is kept apart."""
_MAX_REMEMBERED = 4096
_TRIES = 2
SLOW_CPU_SECONDS = 0.2
"""CPU time after which a job is started again in the second parser. Almost all need a tenth."""
_MAIN_LIMITS = WatchdogLimits(cpu=SLOW_CPU_SECONDS, silent=3.0)
_LIMITS = WatchdogLimits(cpu=JOB_CPU_SECONDS, silent=20.0)
_NICENESS = 5
"""Of the second parser, so that its work takes less CPU time from all others."""


class _Waiting(Struct):
    """A job that waits for its turn.

    Attributes:
        tenant: who waits for it.
        name: of the job.
        body: the encoded argument.
        result: resolves to the encoded result, or fails with the error.
    """

    tenant: str
    name: str
    body: bytes
    result: asyncio.Future[bytes]


class ParserPool:
    """Implements `JobRunner` with two parsers.

    In each, the tenants with waiting jobs take turns. A job that is slow is started again in the
    second parser, and so are all further jobs of its tenant for a while. So it delays only others
    like it, and a tenant with usual jobs waits for at most one slow start of each other tenant.

    Args:
        supervisor: starts the parsers.
        jobs: returns all jobs by name.
        clock: the time.
    """

    def __init__(
        self,
        supervisor: ChildSupervisor,
        jobs: Callable[[], Mapping[str, ParseJob[Any, Any]]],
        clock: Clock,
    ) -> None:
        self._jobs = jobs
        self._clock = clock
        self._main = _ParserLane(supervisor, _MAIN_LIMITS, self._keep_apart)
        self._quarantine = _ParserLane(supervisor, _LIMITS)
        self._offenders: BoundedDict[str, float] = BoundedDict(_MAX_REMEMBERED)
        self._refused: BoundedDict[bytes, float] = BoundedDict(_MAX_REMEMBERED)
        self._digest_key = token_bytes(32)

    async def __aenter__(self) -> Self:
        """Return this object; the block uses the parsers."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """End the parsers."""
        await self.close()

    async def run(self, job: ParseJob[A, R], argument: A, *, tenant: str) -> R:
        """Run one job; see `JobRunner`."""
        result = await self.run_encoded(job.name, encode_body(argument), tenant=tenant)
        return msgspec.msgpack.decode(result, type=job.result_type)

    async def run_encoded(self, name: str, body: bytes, *, tenant: str) -> bytes:
        """Run one job whose argument and result are encoded; see `JobRunner`.

        Raises:
            ObjectUnusableError: the job needs more than the limits, or was refused for it before.
            KeyferryError: what the job raised.
        """
        job = self._jobs().get(name)
        if job is None:
            raise InternalError(f"unknown parse job {name!r}")
        try:
            return await self._run_within_limits(name, body, tenant)
        except _ParserLimitError as error:
            problem = f"{job.limit_problem}: its parser {error.reason}"
            raise ObjectUnusableError(problem, job.limit_remedy) from None

    async def _run_within_limits(self, name: str, body: bytes, tenant: str) -> bytes:
        if len(body) > MAX_JOB_BYTES:
            raise _ParserLimitError(f"would have to read more than {MAX_JOB_BYTES} bytes")
        digest = blake2b(body, key=self._digest_key, salt=name.encode()[-16:]).digest()
        if self._is_recent(self._refused.get(digest)):
            raise _ParserLimitError(Verdict.SPINNING.value)
        is_offender = self._is_recent(self._offenders.get(tenant))
        lane = self._quarantine if is_offender else self._main
        ended: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        lane.add(_Waiting(tenant, name, body, ended))
        try:
            return await ended
        except _QueueFullError:
            raise
        except _ParserLimitError:
            self._refused[digest] = self._offenders[tenant] = self._clock.monotonic()
            raise

    async def close(self) -> None:
        """End the parsers; jobs in flight fail."""
        await self._main.close()
        await self._quarantine.close()

    def _keep_apart(self, slow: _Waiting) -> None:
        """Run a job and all further ones of its tenant in the second parser."""
        self._offenders[slow.tenant] = self._clock.monotonic()
        for waiting in (slow, *self._main.take(slow.tenant)):
            try:
                self._quarantine.add(waiting)
            except _QueueFullError as error:
                waiting.result.set_exception(error)

    def _is_recent(self, at: float | None) -> bool:
        return at is not None and self._clock.monotonic() - at < _REMEMBERED_SECONDS


class _ParserLimitError(Exception):
    """A job ended its parser; `reason` completes the sentence "the parser ..."."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class _QueueFullError(_ParserLimitError):
    """A job was not started; it may run later."""


class _ParserLane:
    """One parser and the jobs that wait for it.

    Args:
        supervisor: starts the parser.
        limits: when a job ends the parser.
        demote: takes over a job that ended the parser; None to let it fail, and to run the parser
            with lower priority.
    """

    def __init__(
        self,
        supervisor: ChildSupervisor,
        limits: WatchdogLimits,
        demote: Callable[[_Waiting], None] | None = None,
    ) -> None:
        self._supervisor = supervisor
        self._limits = limits
        self._demote = demote
        self._queues: OrderedDict[str, deque[_Waiting]] = OrderedDict()
        self._added = asyncio.Event()
        self._process: ChildProcess | None = None
        self._channel: Channel | None = None
        self._worker: asyncio.Task[None] | None = None

    def add(self, waiting: _Waiting) -> None:
        """Add a job.

        Raises:
            _QueueFullError: the tenant has too many waiting jobs.
        """
        tenant = waiting.tenant
        queue = self._queues.setdefault(tenant, deque())
        if len(queue) >= MAX_WAITING_PER_TENANT:
            raise _QueueFullError(f"waits behind {len(queue)} others of the namespace {tenant!r}")
        queue.append(waiting)
        self._added.set()
        if self._worker is None or self._worker.done():
            self._worker = spawn(self._work(), name="parse jobs")

    def take(self, tenant: str) -> Iterable[_Waiting]:
        """Remove the waiting jobs of a tenant and return them."""
        return self._queues.pop(tenant, ())

    async def close(self) -> None:
        """End the parser; jobs in flight fail."""
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.wait((self._worker,))
        for queue in self._queues.values():
            for waiting in queue:
                waiting.result.cancel()
        await self._stop()

    async def _work(self) -> None:
        """Run jobs until none has come for a while, then end the parser."""
        while True:
            while waiting := self._next():
                await self._run(waiting)
                # A tenant that came meanwhile is next.
                if waiting.tenant in self._queues:
                    self._queues.move_to_end(waiting.tenant)
            self._added.clear()
            try:
                await asyncio.wait_for(self._added.wait(), IDLE_SECONDS)
            except TimeoutError:
                await self._stop()

    def _next(self) -> _Waiting | None:
        """Return the next job of the tenant whose turn it is."""
        while self._queues:
            tenant, queue = next(iter(self._queues.items()))
            while queue:
                waiting = queue.popleft()
                if not queue:
                    del self._queues[tenant]
                if not waiting.result.done():  # otherwise its caller no longer waits
                    return waiting
        return None

    async def _run(self, waiting: _Waiting) -> None:
        try:
            result = await self._answer(waiting)
        except (KeyferryError, _ParserLimitError) as error:
            if waiting.result.done():
                return
            if self._demote is not None and isinstance(error, _ParserLimitError):
                self._demote(waiting)
            else:
                waiting.result.set_exception(error)
        else:
            if not waiting.result.done():
                waiting.result.set_result(result)

    async def _answer(self, waiting: _Waiting) -> bytes:
        """Let the parser run a job; replace the parser if it gets stuck or ends.

        A parser that ended for another reason than this job, such as a signal, gets it once more.
        """
        reason = ""
        for _ in range(_TRIES):
            channel, process = await self._started()
            answer = start_quietly(channel.call_encoded(waiting.name, waiting.body))
            verdict = await self._supervisor.answered(process, answer, self._limits)
            if verdict is Verdict.WAIT:
                try:
                    return await answer
                except ChannelClosedError:
                    reason = "ended while it ran a job"
            else:
                reason = verdict.value
            answer.cancel()
            self._supervisor.ended(reason)
            await self._stop()
            if verdict in (Verdict.SPINNING, Verdict.SILENT):
                break
        raise _ParserLimitError(reason)

    async def _started(self) -> tuple[Channel, ChildProcess]:
        if self._process is None or self._channel is None or self._channel.is_closed:
            if self._process is not None:
                self._supervisor.ended("ended without a job")
                await self._stop()
            self._process = await self._supervisor.start()
            if self._demote is None:
                niceness = os.getpriority(os.PRIO_PROCESS, 0) + _NICENESS
                with suppress(OSError):
                    os.setpriority(os.PRIO_PROCESS, self._process.pid, niceness)
            self._channel = Channel({})
            await self._channel.open(self._process.connection)
        return self._channel, self._process

    async def _stop(self) -> None:
        process, channel = self._process, self._channel
        self._process = self._channel = None
        if process is not None:
            process.kill()
        if channel is not None:
            await channel.close()
        if process is not None:
            process.close()


class RemoteJobRunner:
    """Implements `JobRunner` in the provider worker: the driver passes the jobs to the parser.

    Args:
        channel: to the driver.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def run(self, job: ParseJob[A, R], argument: A, *, tenant: str) -> R:
        """Run one job; see `JobRunner`."""
        call = JobCall(job.name, encode_body(argument), tenant)
        result: bytes = await self._channel.call(RUN_JOB, call)
        return msgspec.msgpack.decode(result, type=job.result_type)
