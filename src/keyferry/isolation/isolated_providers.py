"""The built-in providers as the driver uses them when they run in the provider worker."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextvars import Context
from typing import TYPE_CHECKING, Any, TypeVar

from keyferry.aio.tasks import shielded, spawn, start_quietly
from keyferry.errors import (
    IdentityError,
    InternalError,
    KeyferryError,
    ProviderUnreachableError,
)
from keyferry.isolation.channel import Channel, ChannelClosedError
from keyferry.isolation.methods import (
    CLUSTER_CA,
    EXPIRING_LEASES,
    METRICS,
    MOUNT,
    NAMED_FILES,
    NODE_KEY,
    PING,
    READ_CHALLENGE_KEY,
    REQUEST_TOKEN,
    RESTORE,
    RUN_JOB,
    SHARED_KEY,
    UNKNOWN_FIELDS,
    VERSION,
    VOLUME_REMOVED,
    ChallengeKeyCall,
    JobCall,
    NamedFilesCall,
    PodTokenCall,
    ProviderMount,
    UnknownFieldsCall,
    VolumeRemoval,
)
from keyferry.isolation.watchdog import Verdict, WatchdogLimits
from keyferry.providers.known_fields.attributes import (
    POD_NAME,
    POD_NAMESPACE,
    POD_UID,
    SERVICE_ACCOUNT,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from keyferry.content import NamedFile
    from keyferry.formats.unknown_fields import UnknownField
    from keyferry.isolation.child import ChildSupervisor
    from keyferry.isolation.messages import Method
    from keyferry.isolation.parser_pool import ParserPool
    from keyferry.isolation.spawner import ChildProcess
    from keyferry.providers.api import FieldCheck, MountCall, MountResult, ProviderVersion
    from keyferry.providers.expiry import ExpiringLease
    from keyferry.providers.privileges import Privileges

A = TypeVar("A")
R = TypeVar("R")

PING_SECONDS = 0.5
"""Time between two pings while calls are in flight."""
_TRIES = 3
"""A call that was in flight when the worker ended is repeated: another call may have ended it."""
_START_TRIES = 2
"""What ended one worker at its start, such as a signal, may not concern the next one."""
_METRICS_SECONDS = 2.0
_END_SECONDS = 2.0
_LIMITS = WatchdogLimits(forgives_delays=True)
_START_LIMITS = WatchdogLimits(cpu=10.0, silent=30.0, forgives_delays=True)
"""For the first answer, before which the worker builds the providers and restores all leases."""


class IsolatedProviders:
    """Implements `BuiltInProviders` with the provider worker.

    The worker is watched while calls are in flight. If it ends or gets stuck, it is replaced, and
    the calls are repeated once. Its cache is lost; its leases are not.

    Args:
        names: the enabled providers.
        supervisor: starts the worker.
        privileges: the privileged side of each provider.
        parser: runs the parse jobs of the worker.
    """

    def __init__(
        self,
        names: frozenset[str],
        *,
        supervisor: ChildSupervisor,
        privileges: Mapping[str, Privileges],
        parser: ParserPool,
    ) -> None:
        self._names = names
        self._supervisor = supervisor
        self._privileges = privileges
        self._parser = parser
        self._pods: Counter[tuple[str, ...]] = Counter()
        self._opening: asyncio.Task[Channel] | None = None
        self._process: ChildProcess | None = None
        self._channel: Channel | None = None
        self._watching: asyncio.Task[None] | None = None
        self._on_restart: Callable[[frozenset[str]], Awaitable[None]] | None = None
        self._restored: frozenset[str] | None = None
        self._closed = False

    @property
    def names(self) -> frozenset[str]:
        """The names of the enabled providers."""
        return self._names

    async def mount(self, name: str, call: MountCall) -> MountResult:
        """Call `mount` of the provider `name`; see `BuiltInProviders`."""
        pod = _pod_of(call)
        self._pods[pod] += 1
        try:
            return await self._call(MOUNT, ProviderMount(name, call))
        finally:
            self._pods[pod] -= 1
            if not self._pods[pod]:
                del self._pods[pod]

    async def call(self, method: Method[A, R], argument: A) -> R:
        """Call a further method of the worker; see `MoreMethods`.

        Raises:
            KeyferryError: what the method raised, or the worker ends again and again.
        """
        return await self._call(method, argument)

    async def version(self, name: str) -> ProviderVersion:
        """Call `version` of the provider `name`."""
        return await self._call(VERSION, name)

    async def named_files(self, name: str, parameters: Mapping[str, str]) -> tuple[NamedFile, ...]:
        """Return the files that a mount will produce; see `BuiltInProviders`."""
        return await self._call(NAMED_FILES, NamedFilesCall(name, dict(parameters)))

    async def unknown_fields(self, name: str, check: FieldCheck) -> tuple[UnknownField, ...]:
        """Return the fields that have no effect; see `BuiltInProviders`."""
        return await self._call(UNKNOWN_FIELDS, UnknownFieldsCall(name, check))

    async def restore(self) -> frozenset[str]:
        """Start the worker; return the target paths of volumes with leases."""
        await self._open()
        return self._restored or frozenset()

    def on_restart(self, callback: Callable[[frozenset[str]], Awaitable[None]]) -> None:
        """Call `callback` with what `restore` returns, after the worker was replaced."""
        self._on_restart = callback

    def volume_removed(self, target_path: str, *, unpublished: bool) -> None:
        """Notify the worker; see `BuiltInProviders`.

        Without a worker nothing is cached, and the next one restores the leases.
        """
        if self._channel is not None:
            self._channel.notify(VOLUME_REMOVED, VolumeRemoval(target_path, unpublished))

    async def expiring_leases(self) -> tuple[tuple[str, ExpiringLease], ...]:
        """Return leases that can no longer be renewed, with the names of their providers."""
        return await self._call(EXPIRING_LEASES, None)

    async def exposition(self) -> bytes:
        """Return the metrics of the worker in the text format of Prometheus; none if it is busy."""
        try:
            async with asyncio.timeout(_METRICS_SECONDS):
                return await self._call(METRICS, None)
        except (TimeoutError, ProviderUnreachableError):
            return b""

    async def close(self) -> None:
        """End the worker, the parser and the privileged side."""
        self._closed = True
        if self._opening is not None:
            await asyncio.wait((self._opening,))
        await self._drop()
        await self._parser.close()
        for privileges in self._privileges.values():
            await privileges.close()

    async def _call(self, method: Method[A, R], argument: A) -> R:
        for _ in range(_TRIES):
            channel = await self._open()
            try:
                return await channel.call(method, argument)
            except ChannelClosedError:
                if self._closed:
                    break
                await self._replace(channel, "ended")
        raise ProviderUnreachableError(
            "the process of the built-in providers ended while it served this call",
            "Kubelet retries the mount. If it happens again, see the log of the driver.",
        )

    async def _open(self) -> Channel:
        """Return the channel to the worker; start the worker if it does not run.

        A caller that is cancelled, as by an unpublish, does not interrupt the start.
        """
        if self._channel is not None:
            return self._channel
        if self._opening is None or self._opening.done():
            # Without the log context of the caller, which is another pod than those of later calls.
            self._opening = asyncio.create_task(self._start(), context=Context())
        return await shielded(self._opening)

    async def _start(self) -> Channel:
        restarted = self._restored is not None
        for _ in range(_START_TRIES):
            process = await self._supervisor.start()
            channel = Channel(self._handlers())
            await channel.open(process.connection)
            try:
                problem = await self._restore(process, channel)
            except KeyferryError:  # the providers cannot be built
                await channel.close()
                process.close()
                raise
            if problem is None:
                break
            await channel.close()
            process.close()
            self._supervisor.ended(problem, at_start=True)
        else:
            raise ProviderUnreachableError(
                "the process of the built-in providers cannot start",
                "See the log of the driver, and the memory limit of its container.",
            )
        self._supervisor.ready()
        self._process, self._channel = process, channel
        self._watching = spawn(self._watch(process, channel), name="watch providers")
        if restarted and self._on_restart is not None:
            spawn(self._run_on_restart(self._on_restart), name="restore leases")
        return channel

    async def _restore(self, process: ChildProcess, channel: Channel) -> str | None:
        """Let a new worker restore its leases.

        Returns:
            None when it has, otherwise why the worker must be replaced.

        Raises:
            KeyferryError: the providers cannot be built.
        """
        answer = start_quietly(channel.call(RESTORE, None))
        verdict = await self._supervisor.answered(process, answer, _START_LIMITS)
        if verdict is not Verdict.WAIT:
            answer.cancel()
            return str(verdict.value)
        try:
            self._restored = await answer
        except ChannelClosedError:
            return "ended at its start"
        return None

    async def _run_on_restart(self, callback: Callable[[frozenset[str]], Awaitable[None]]) -> None:
        await callback(self._restored or frozenset())

    async def _watch(self, process: ChildProcess, channel: Channel) -> None:
        """Replace the worker when it ends, or when it does not answer while calls are in flight."""
        closed = asyncio.ensure_future(channel.wait_closed())
        reason = "ended"
        while not closed.done():
            if not channel.calls_in_flight:
                # No timer: nothing wakes an idle driver.
                called = start_quietly(channel.wait_for_call())
                await asyncio.wait((closed, called), return_when=asyncio.FIRST_COMPLETED)
                called.cancel()
            await asyncio.wait((closed,), timeout=PING_SECONDS)
            if closed.done() or not channel.calls_in_flight:
                continue
            ping = start_quietly(channel.call(PING, None))
            verdict = await self._supervisor.answered(process, ping, _LIMITS)
            if verdict is not Verdict.WAIT:
                ping.cancel()
                reason = verdict.value
                break
        closed.cancel()
        await self._replace(channel, reason)

    async def _replace(self, channel: Channel, reason: str) -> None:
        """Drop the worker behind `channel`, unless that has been done; the next call starts one."""
        if self._channel is channel and not self._closed:
            self._supervisor.ended(reason)
            await self._drop()

    async def _drop(self) -> None:
        process, channel, watching = self._process, self._channel, self._watching
        self._process = self._channel = self._watching = None
        if watching is not None and watching is not asyncio.current_task():
            watching.cancel()
            await asyncio.wait((watching,))
        if process is not None and not self._closed:
            process.kill()
        if channel is not None:
            await channel.close()
        if process is not None:
            if self._closed:
                await process.wait(_END_SECONDS)  # it closes its providers
            process.close()

    def _handlers(
        self,
    ) -> Mapping[str, tuple[Method[Any, Any], Callable[[Any], Awaitable[Any]]]]:
        """Return what the worker may ask for. Each method checks its argument."""
        return {
            RUN_JOB.name: (RUN_JOB, self._run_job),
            REQUEST_TOKEN.name: (REQUEST_TOKEN, self._request_token),
            SHARED_KEY.name: (SHARED_KEY, lambda name: self._of(name).load_shared_key()),
            NODE_KEY.name: (NODE_KEY, lambda name: self._of(name).load_node_key()),
            CLUSTER_CA.name: (CLUSTER_CA, lambda name: self._of(name).load_cluster_ca()),
            READ_CHALLENGE_KEY.name: (READ_CHALLENGE_KEY, self._read_challenge_key),
        }

    async def _run_job(self, call: JobCall) -> bytes:
        return await self._parser.run_encoded(call.name, call.body, tenant=call.tenant)

    async def _request_token(self, call: PodTokenCall) -> str:
        """Request a token for a pod whose volume is being mounted, and for no other."""
        asked = call.request
        pod = asked.namespace, asked.service_account, asked.pod_name, asked.pod_uid
        if pod not in self._pods:
            raise IdentityError(
                f"no token is requested for pod {asked.namespace}/{asked.pod_name}: none of its "
                "volumes is being mounted",
                "See the log of the driver on this node.",
            )
        return await self._of(call.provider).request_token(call.request)

    async def _read_challenge_key(self, call: ChallengeKeyCall) -> str:
        return await self._of(call.provider).read_challenge_key(call.path)

    def _of(self, provider: str) -> Privileges:
        if provider not in self._privileges:
            raise InternalError(f"unknown provider {provider!r}")
        return self._privileges[provider]


def _pod_of(call: MountCall) -> tuple[str, ...]:
    names = POD_NAMESPACE, SERVICE_ACCOUNT, POD_NAME, POD_UID
    return tuple(call.attributes.get(name, "") for name in names)
