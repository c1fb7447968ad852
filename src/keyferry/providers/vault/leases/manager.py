"""The secrets that were made for the pods of this node: held, renewed, replaced, given back.

A dynamic secret is asked for once and held as long as a volume of its pod uses it. It is renewed
before it ends; where the vault renews it no further, the next refresh of the volume gets a new one.
With the last volume it is revoked. Where there is a folder for it (`lease_store`), the next process
knows all of this and goes on.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from keyferry.aio.single_flight import SharedCall
from keyferry.errors import KeyferryError
from keyferry.providers.expiry import ExpiringLease
from keyferry.providers.vault.auth.token import NEVER
from keyferry.providers.vault.leases.client import LeaseClient
from keyferry.providers.vault.leases.lease import Lease, LeaseAction, ttl_of
from keyferry.providers.vault.leases.polls import VolumeLiveness
from keyferry.telemetry.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable

    from keyferry.aio.clock import Clock
    from keyferry.providers.vault.auth.session import VaultTransport
    from keyferry.providers.vault.auth.token import VaultToken
    from keyferry.providers.vault.http.response import VaultResponse
    from keyferry.providers.vault.leases.lease import ReadResult
    from keyferry.providers.vault.leases.store import LeaseStore
    from keyferry.providers.vault.objects import ReadRequest
    from keyferry.resilience.cache_key import CacheKey

MAX_RENEW_CHECK_SECONDS = 5.0
"""Between two looks whether something is to be renewed, at the most."""
MIN_RENEW_CHECK_SECONDS = 0.5
"""And at the least."""
RENEW_RETRY_SECONDS = 30.0
"""A renewal that failed is tried again so much later, sooner if the end is near."""
CLOSE_TIMEOUT_SECONDS = 5.0
"""So long the end of the process waits for what is being given back."""
_log = get_logger("vault")


class LeaseManager:
    """Everything that is held.

    Args:
        transport: the way to the vaults.
        clock: how time passes.
        store: keeps them for the next process.
        renew_in_background: whether secrets are renewed between mounts.
        idle_seconds: see `Polls`.
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
        self._creations: dict[CacheKey, SharedCall[ReadResult]] = {}
        self._renewals: dict[CacheKey, SharedCall[None]] = {}
        self._revocations: set[asyncio.Task[None]] = set()
        self._renew_task: asyncio.Task[None] | None = None

    def __contains__(self, key: CacheKey) -> bool:
        """Whether a secret is held for exactly this question of this pod."""
        return key in self._leases

    def restore(self) -> list[Lease]:
        """Take up what an earlier process held; returns it.

        What no volume uses any more was about to be revoked, and is.
        """
        found = self._store.load(self._clock.monotonic())
        self._leases = {lease.key: lease for lease in found if lease.volumes}
        for lease in found:
            lease.result.token.lease_count += bool(lease.id)
            for volume in lease.volumes:
                self._liveness.touch(volume, self._clock.monotonic())
        self._revoke_later([lease for lease in found if not lease.volumes])
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
        """The secret that is held, or a new one.

        Args:
            key: what is asked, for which pod.
            request: the same as it is sent.
            volume: the target path that uses it.
            create: asks the vault.

        Raises:
            KeyferryError: the vault gives none.
        """
        self._liveness.touch(volume, self._clock.monotonic())
        lease = await self._valid(key)
        if lease is None:
            flight = self._creations.get(key)
            if flight is None:
                flight = SharedCall(
                    self._create(key, request, volume, create), lambda: self._creation_done(key)
                )
                self._creations[key] = flight
            issued = await flight.wait()
            lease = self._leases.get(key)
            if lease is None:
                return issued.response
        if volume not in lease.volumes:
            lease.volumes.add(volume)
            self._store.save(lease)
        return lease.result.response

    def track(
        self, key: CacheKey, request: ReadRequest, result: ReadResult, volume: str
    ) -> Lease | None:
        """Keep what a vault has made for one pod; None where it has no end that is known."""
        self._remove_expired()
        self._liveness.touch(volume, self._clock.monotonic())
        life = ttl_of(result.response, request, wall_time=self._clock.wall().timestamp())
        if life is None:
            return None
        expires = self._clock.monotonic() + life
        lease = Lease(key, result, life, expires, result.response.renewable, {volume})
        if lease.id:
            result.token.lease_count += 1
            if result.session_shared:
                # The token is now this pod's alone, to be revoked with it; others log in anew.
                result.invalidate_token()
        former = self._leases.get(key)
        if former is not None:
            lease.volumes |= former.volumes
            _unref_token(former)
        self._leases[key] = lease
        self._store.save(lease)
        self._start_renewing()
        return lease

    def retain_only(self, volume: str, used: Iterable[CacheKey]) -> None:
        """A volume is mounted and uses these; what it used besides is given back."""
        self._release_unused(volume, keep=frozenset(used))

    def volume_removed(self, volume: str) -> None:
        """A volume is gone; what no other volume uses is revoked, without anybody waiting."""
        self._release_unused(volume, keep=frozenset())

    def expiring_leases(self) -> tuple[ExpiringLease, ...]:
        """What is renewed no further, for each volume that uses it."""
        now, wall = self._clock.monotonic(), self._clock.wall().timestamp()
        return tuple(
            ExpiringLease(volume, lease.expiry(now=now, wall_time=wall))
            for lease in self._leases.values()
            if lease.next_action(now) is LeaseAction.REPLACE
            for volume in sorted(lease.volumes)
        )

    async def renew_due(self) -> None:
        """Renew what is due now."""
        now = self._clock.monotonic()
        # What no volume uses, because its mount was given up, ends by itself.
        there = [one for one in self._leases.values() if self._liveness.any_alive(one.volumes, now)]
        due = [lease for lease in there if lease.retry_at <= now]
        renewals = (
            self._renew(lease) for lease in due if lease.next_action(now) is LeaseAction.RENEW
        )
        for outcome in await asyncio.gather(*renewals, return_exceptions=True):
            if isinstance(outcome, Exception):
                _log.error("a secret was not renewed", error=type(outcome).__name__)
        self._remove_expired()

    async def close(self) -> None:
        """Stop renewing. Pods go on with what they have, so nothing is revoked."""
        if self._renew_task is not None:
            self._renew_task.cancel()
            await asyncio.wait((self._renew_task,))
        if self._revocations:
            _, late = await asyncio.wait(self._revocations, timeout=CLOSE_TIMEOUT_SECONDS)
            for task in late:
                task.cancel()
        self._store.close()

    def _start_renewing(self) -> None:
        if self._renew_in_background and self._renew_task is None:
            self._renew_task = asyncio.create_task(self._renew_loop())

    async def _create(
        self,
        key: CacheKey,
        request: ReadRequest,
        volume: str,
        create: Callable[[], Awaitable[ReadResult]],
    ) -> ReadResult:
        issued = await create()
        self.track(key, request, issued, volume)
        return issued

    def _creation_done(self, key: CacheKey) -> None:
        self._creations.pop(key, None)

    async def _valid(self, key: CacheKey) -> Lease | None:
        """The secret that is held, renewed if it must be; None where a new one is needed."""
        lease = self._leases.get(key)
        if lease is None:
            return None
        if lease.next_action(self._clock.monotonic()) is LeaseAction.RENEW:
            await self._renew(lease)
        return None if lease.next_action(self._clock.monotonic()) is LeaseAction.REPLACE else lease

    async def _renew(self, lease: Lease) -> None:
        """Renew a lease and its token; a vault that does not answer is asked again later."""
        flight = self._renewals.get(lease.key)
        if flight is None:
            flight = SharedCall(self._client.renew(lease), lambda: self._renewal_done(lease.key))
            self._renewals[lease.key] = flight
        try:
            await flight.wait()
        except KeyferryError as error:
            now = self._clock.monotonic()
            lease.retry_at = now + min(RENEW_RETRY_SECONDS, (lease.lease_expires_at - now) / 4)
            _log.warning("a secret could not be renewed yet", **error.log_pairs())
        else:
            self._save_leases_of(lease.result.token)

    def _save_leases_of(self, token: VaultToken) -> None:
        """A token and what hangs on it have other times now."""
        for lease in self._leases.values():
            if lease.result.token is token:
                self._store.save(lease)

    def _renewal_done(self, key: CacheKey) -> None:
        self._renewals.pop(key, None)

    def _remove_expired(self) -> None:
        """Forget what has ended."""
        now = self._clock.monotonic()
        for lease in [lease for lease in self._leases.values() if lease.lease_expires_at <= now]:
            del self._leases[lease.key]
            self._store.delete(lease)
            _unref_token(lease)

    def _release_unused(self, volume: str, *, keep: frozenset[CacheKey]) -> None:
        gone = []
        for lease in list(self._leases.values()):
            if volume in lease.volumes and lease.key not in keep:
                lease.volumes.discard(volume)
                if not lease.volumes:
                    del self._leases[lease.key]
                    gone.append(lease)
                # What is to be revoked is known until it is, also to the next process.
                self._store.save(lease)
        self._revoke_later(gone)

    def _revoke_later(self, unused: list[Lease]) -> None:
        """Revoke what nobody uses any more, without anybody waiting."""
        leases = []
        for lease in unused:
            if lease.id:
                leases.append(lease)
            else:
                self._store.delete(lease)
        if leases:
            task = asyncio.create_task(self._revoke(leases))
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
            due = min((lease.renew_at for lease in self._leases.values()), default=NEVER)
            left = due - self._clock.monotonic()
            await self._clock.sleep(
                min(MAX_RENEW_CHECK_SECONDS, max(left, MIN_RENEW_CHECK_SECONDS))
            )
            await self.renew_due()


def _unref_token(lease: Lease) -> None:
    if lease.id:
        lease.result.token.lease_count -= 1
