"""Lease manager: tracks, renews, replaces and revokes dynamic secrets, by volume.

The life of a dynamic secret:

1. Creation: the first read of a pod creates it. Concurrent reads of the pod share that request.
2. Use: further reads of the pod return it as long as it is valid.
3. Renewal: it and its token are renewed before they expire. A failed renewal is tried again.
4. Replacement: if the vault does not renew it any more, the next refresh of the volume creates
   another one. `expiring_leases` reports it, so that the driver refreshes the volume in time.
5. Revocation: when the last volume that uses it is removed, it is revoked in the background.
6. Expiry: a secret that has expired is no longer tracked, but `expiring_leases` still reports it:
   its volume has to be refreshed.

With a lease directory (`LeaseStore`), leases survive a restart of the process.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from keyferry.aio.single_flight import SharedCall
from keyferry.aio.tasks import spawn
from keyferry.errors import KeyferryError, MountLimitError
from keyferry.formats.bounded_dict import BoundedDict
from keyferry.providers.expiry import ExpiringLease
from keyferry.providers.vault.auth.token import NEVER
from keyferry.providers.vault.leases.client import LeaseClient
from keyferry.providers.vault.leases.lease import Lease, LeaseAction, ttl_of
from keyferry.providers.vault.leases.liveness import MAX_VOLUMES, VolumeLiveness
from keyferry.telemetry.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator

    from keyferry.aio.clock import Clock
    from keyferry.providers.expiry import Expiry
    from keyferry.providers.vault.auth.session import VaultTransport
    from keyferry.providers.vault.auth.token import VaultToken
    from keyferry.providers.vault.http.response import VaultResponse
    from keyferry.providers.vault.leases.lease import ReadResult
    from keyferry.providers.vault.leases.store import LeaseStore
    from keyferry.providers.vault.objects import ReadRequest
    from keyferry.resilience.cache_key import CacheKey

MAX_RENEW_CHECK_SECONDS = 5.0
"""Maximum interval between two checks for due renewals."""
MIN_RENEW_CHECK_SECONDS = 0.5
"""Minimum interval between two checks for due renewals."""
RENEW_RETRY_SECONDS = 30.0
"""Delay before a failed renewal is tried again; shorter if the lease expires soon."""
CLOSE_TIMEOUT_SECONDS = 5.0
"""How long the end of the process waits for revocations in flight."""
MAX_LEASE_BYTES = 128 * 1024
"""Maximum memory of one dynamic secret; a certificate with its chain takes about 20 KiB."""
MAX_TENANT_BYTES = 8 * 1024 * 1024
"""Maximum memory of the dynamic secrets of one tenant on this node."""
_log = get_logger("vault")


class LeaseManager:
    """Tracks the dynamic secrets of the pods of this node.

    Args:
        transport: sends requests to vaults.
        clock: source of the current time.
        store: persists leases for the next process.
        renew_in_background: whether secrets are renewed between mounts.
        idle_seconds: see `VolumeLiveness`.
    """

    def __init__(
        self,
        transport: VaultTransport,
        clock: Clock,
        store: LeaseStore,
        *,
        renew_in_background: bool,
        idle_seconds: float | None = None,
    ) -> None:
        self._client = LeaseClient(transport)
        self._clock = clock
        self._store = store
        self._renew_in_background = renew_in_background
        self._liveness = VolumeLiveness(idle_seconds)
        self._leases: dict[CacheKey, Lease] = {}
        self._expired: BoundedDict[str, dict[CacheKey, Expiry]] = BoundedDict(MAX_VOLUMES)
        """By volume: what has expired since its last successful mount."""
        self._creations: dict[CacheKey, SharedCall[ReadResult]] = {}
        self._renewals: dict[CacheKey, SharedCall[None]] = {}
        self._revocations: set[asyncio.Task[None]] = set()
        self._renew_task: asyncio.Task[None] | None = None
        self._renewing: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        """Return the number of tracked secrets."""
        return len(self._leases)

    def __iter__(self) -> Iterator[Lease]:
        """Iterate over the tracked secrets."""
        return iter(self._leases.values())

    def __contains__(self, key: CacheKey) -> bool:
        """Return whether a secret is tracked for this request of this pod."""
        return key in self._leases

    def restore(self) -> list[Lease]:
        """Load and return the leases of an earlier process.

        Leases without a volume are revoked: the earlier process was about to do so.
        """
        stored = self._store.load(self._clock.monotonic())
        self._leases = {lease.key: lease for lease in stored if lease.volumes}
        for lease in stored:
            lease.result.token.lease_count += bool(lease.id)
            for volume in lease.volumes:
                self._liveness.touch(volume, self._clock.monotonic())
        self._revoke_later([lease for lease in stored if not lease.volumes])
        if self._leases:
            self._start_renewing()
        return list(self._leases.values())

    async def get_or_create(
        self,
        key: CacheKey,
        request: ReadRequest,
        volume: str,
        create: Callable[[], Coroutine[None, None, ReadResult]],
    ) -> VaultResponse:
        """Return a tracked secret, or create one.

        1. A valid secret is tracked, possibly after a renewal: it is returned.
        2. The same pod is creating the secret: the caller waits for that request.
        3. Otherwise it is created. If it has no known lifetime, it is returned untracked.

        Args:
            key: the request and the pod.
            request: the request to the vault.
            volume: target path of the volume that uses the secret.
            create: sends the request to the vault.

        Raises:
            KeyferryError: the secret could not be created.
        """
        self._liveness.touch(volume, self._clock.monotonic())
        lease = await self._valid(key)
        if lease is None:
            creation = self._creations.get(key)
            if creation is None:
                creation = SharedCall(
                    self._create(key, request, volume, create), lambda: self._creation_done(key)
                )
                self._creations[key] = creation
            result = await creation.wait()
            lease = self._leases.get(key)
            if lease is None:
                return result.response
        if volume not in lease.volumes:
            lease.volumes.add(volume)
            self._store.save(lease)
        return lease.result.response

    def track(
        self, key: CacheKey, request: ReadRequest, result: ReadResult, volume: str
    ) -> Lease | None:
        """Track a secret that was created for one pod.

        Args:
            key: the request and the pod.
            request: the request to the vault.
            result: the secret.
            volume: target path of the volume that uses the secret.

        Returns:
            The lease; None if the secret has no known lifetime.

        Raises:
            MountLimitError: it is too large to be tracked, or its tenant has too many. It is
                revoked.
        """
        self._remove_expired()
        self._liveness.touch(volume, self._clock.monotonic())
        ttl = ttl_of(result.response, request, wall_time=self._clock.wall().timestamp())
        if ttl is None:
            return None
        expires_at = self._clock.monotonic() + ttl
        lease = Lease(key, result, ttl, expires_at, result.response.renewable, {volume})
        if lease.id:
            result.token.lease_count += 1
            if result.session_shared:
                # From now on only this pod uses the token, so that both can be revoked together.
                # Other pods log in again.
                result.invalidate_token()
        previous = self._leases.get(key)
        if problem := self._size_problem(lease, previous):
            self._revoke_later([lease])
            raise MountLimitError(
                problem, "Store large content as static secrets, or run fewer Pods on this node."
            )
        if previous is not None:
            lease.volumes |= previous.volumes
            _unref_token(previous)
        self._leases[key] = lease
        self._store.save(lease)
        self._start_renewing()
        return lease

    def retain_only(self, volume: str, used: Iterable[CacheKey]) -> None:
        """Record that `volume` uses only the secrets `used`; its other secrets are released."""
        self._release_unused(volume, keep=frozenset(used))

    def volume_removed(self, volume: str) -> None:
        """Release the secrets of a removed volume; those without a volume are revoked later."""
        self._release_unused(volume, keep=frozenset())

    def expiring_leases(self) -> tuple[ExpiringLease, ...]:
        """Return the leases that cannot be renewed any more, once for each of their volumes.

        Also those that have expired, until a mount of the volume succeeds.
        """
        now, wall = self._clock.monotonic(), self._clock.wall().timestamp()
        expiring = [
            ExpiringLease(volume, lease.expiry(now=now, wall_time=wall))
            for lease in self._leases.values()
            if lease.next_action(now) is LeaseAction.REPLACE
            for volume in sorted(lease.volumes)
        ]
        expired = [
            ExpiringLease(volume, expiry)
            for volume, expiries in self._expired.items()
            for expiry in expiries.values()
        ]
        return (*expiring, *expired)

    async def renew_due(self) -> None:
        """Renew all leases that are due, and wait for the outcome."""
        await asyncio.gather(*map(self._renew_and_log, self._due()))
        self._remove_expired()

    async def close(self) -> None:
        """Stop renewals and wait for revocations in flight. Secrets of running pods stay valid."""
        if self._renew_task is not None:
            self._renew_task.cancel()
            await asyncio.wait((self._renew_task,))
        for renewing in self._renewing:
            renewing.cancel()
        if self._revocations:
            _, pending = await asyncio.wait(self._revocations, timeout=CLOSE_TIMEOUT_SECONDS)
            for task in pending:
                task.cancel()
        self._store.close()

    def _size_problem(self, lease: Lease, previous: Lease | None) -> str | None:
        """Return why `lease`, which replaces `previous`, is not tracked; None if it can be."""
        if lease.memory > MAX_LEASE_BYTES:
            return (
                f"the dynamic secret at {lease.path} takes {lease.memory} bytes of memory; the"
                f" limit is {MAX_LEASE_BYTES}"
            )
        tenant = lease.result.origin.caller.tenant
        others = sum(
            other.memory
            for other in self._leases.values()
            if other is not previous and other.result.origin.caller.tenant == tenant
        )
        if others + lease.memory > MAX_TENANT_BYTES:
            return (
                f"the dynamic secrets of namespace {tenant!r} on this node take more than"
                f" {MAX_TENANT_BYTES} bytes of memory"
            )
        return None

    def _start_renewing(self) -> None:
        if self._renew_in_background and self._renew_task is None:
            self._renew_task = spawn(self._renew_loop(), name="renew leases")

    async def _create(
        self,
        key: CacheKey,
        request: ReadRequest,
        volume: str,
        create: Callable[[], Awaitable[ReadResult]],
    ) -> ReadResult:
        result = await create()
        self.track(key, request, result, volume)
        return result

    def _creation_done(self, key: CacheKey) -> None:
        self._creations.pop(key, None)

    async def _valid(self, key: CacheKey) -> Lease | None:
        """Return the tracked secret, renewed if it is due; None if a new one is necessary."""
        lease = self._leases.get(key)
        if lease is None:
            return None
        if lease.next_action(self._clock.monotonic()) is LeaseAction.RENEW:
            await self._renew(lease)
        return None if lease.next_action(self._clock.monotonic()) is LeaseAction.REPLACE else lease

    async def _renew(self, lease: Lease) -> None:
        """Renew a lease and its token; schedule another try if the vault does not respond."""
        renewal = self._renewals.get(lease.key)
        if renewal is None:
            renewal = SharedCall(self._client.renew(lease), lambda: self._renewal_done(lease.key))
            self._renewals[lease.key] = renewal
        try:
            await renewal.wait()
        except KeyferryError as error:
            now = self._clock.monotonic()
            lease.retry_at = now + min(RENEW_RETRY_SECONDS, (lease.lease_expires_at - now) / 4)
            _log.warning("lease renewal failed; it will be tried again", **error.log_pairs())
        else:
            self._save_leases_of(lease.result.token)

    def _save_leases_of(self, token: VaultToken) -> None:
        """Save all leases that depend on `token`: a renewal changed its times."""
        for lease in self._leases.values():
            if lease.result.token is token:
                self._store.save(lease)

    def _renewal_done(self, key: CacheKey) -> None:
        self._renewals.pop(key, None)

    def _remove_expired(self) -> None:
        """Stop tracking secrets that have expired."""
        now, wall = self._clock.monotonic(), self._clock.wall().timestamp()
        for lease in [lease for lease in self._leases.values() if lease.lease_expires_at <= now]:
            for volume in lease.volumes:
                if self._liveness.any_alive((volume,), now):
                    expiries = self._expired.setdefault(volume, {})
                    expiries[lease.key] = lease.expiry(now=now, wall_time=wall)
            del self._leases[lease.key]
            self._store.delete(lease)
            _unref_token(lease)

    def _release_unused(self, volume: str, *, keep: frozenset[CacheKey]) -> None:
        self._expired.pop(volume, None)
        unused = []
        for lease in list(self._leases.values()):
            if volume in lease.volumes and lease.key not in keep:
                lease.volumes.discard(volume)
                if not lease.volumes:
                    del self._leases[lease.key]
                    unused.append(lease)
                # The record remains until the revocation is done, so that it survives a restart.
                self._store.save(lease)
        self._revoke_later(unused)

    def _revoke_later(self, unused: list[Lease]) -> None:
        """Revoke secrets in the background. A certificate is not revoked, only forgotten."""
        revocable = []
        for lease in unused:
            if lease.id:
                revocable.append(lease)
            else:
                self._store.delete(lease)
        if revocable:
            task = asyncio.create_task(self._revoke(revocable))
            self._revocations.add(task)
            task.add_done_callback(self._revocations.discard)

    async def _revoke(self, leases: list[Lease]) -> None:
        for lease in leases:
            _unref_token(lease)
        await self._client.revoke(leases)
        for lease in leases:
            if lease.key not in self._leases:
                self._store.delete(lease)

    async def _renew_loop(self) -> None:
        while True:
            next_due = min((lease.renew_at for lease in self._leases.values()), default=NEVER)
            delay = next_due - self._clock.monotonic()
            await self._clock.sleep(
                min(MAX_RENEW_CHECK_SECONDS, max(delay, MIN_RENEW_CHECK_SECONDS))
            )
            # They are not awaited: a vault that hangs delays only the renewals of its own leases.
            for lease in self._due():
                if lease.key not in self._renewals:
                    task = asyncio.create_task(self._renew_and_log(lease))
                    self._renewing.add(task)
                    task.add_done_callback(self._renewing.discard)
            self._remove_expired()

    def _due(self) -> list[Lease]:
        """Return the leases that are due for renewal.

        A secret without a live volume, such as one of a cancelled mount, is left to expire.
        """
        now = self._clock.monotonic()
        return [
            lease
            for lease in self._leases.values()
            if self._liveness.any_alive(lease.volumes, now)
            and lease.retry_at <= now
            and lease.next_action(now) is LeaseAction.RENEW
        ]

    async def _renew_and_log(self, lease: Lease) -> None:
        try:
            await self._renew(lease)
        except Exception as error:  # noqa: BLE001 - the other leases must be renewed
            _log.error("lease renewal failed: internal error", error=type(error).__name__)


def _unref_token(lease: Lease) -> None:
    if lease.id:
        lease.result.token.lease_count -= 1
