"""The secrets that were made for the pods of this node: held, renewed, replaced, given back.

A dynamic secret is asked for once and held as long as a volume of its pod uses it. It is renewed
before it ends; where the vault renews it no further, the next refresh of the volume gets a new one.
With the last volume it is revoked. Where there is a folder for it (`lease_store`), the next process
knows all of this and goes on.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from keyferry.economy.flights import Flight
from keyferry.errors import KeyferryError
from keyferry.expiry import Ending
from keyferry.logs import get_logger
from keyferry.vault.grant import NEVER
from keyferry.vault.lease import Lease, Step, lifetime
from keyferry.vault.lease_calls import LeaseCalls
from keyferry.vault.polls import Polls

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable

    from keyferry.clocks import Clock
    from keyferry.economy.key import FetchKey
    from keyferry.vault.answer import Answer
    from keyferry.vault.grant import Grant
    from keyferry.vault.lease import Issued
    from keyferry.vault.lease_store import LeaseStore
    from keyferry.vault.objects import ReadRequest
    from keyferry.vault.session import Vaults

TEND_SECONDS = 5.0
"""Between two looks whether something is to be renewed, at the most."""
SHORTEST_TEND_SECONDS = 0.5
"""And at the least."""
RETRY_SECONDS = 30.0
"""A renewal that failed is tried again so much later, sooner if the end is near."""
CLOSE_SECONDS = 5.0
"""So long the end of the process waits for what is being given back."""
_log = get_logger("vault")


class Leases:
    """Everything that is held.

    Args:
        vaults: the way to the vaults.
        clock: how time passes.
        store: keeps them for the next process.
        background: whether secrets are renewed between mounts.
        idle: see `Polls`.
    """

    def __init__(
        self,
        vaults: Vaults,
        clock: Clock,
        store: LeaseStore,
        *,
        background: bool,
        idle: float | None = None,
    ) -> None:
        self._calls = LeaseCalls(vaults)
        self._clock = clock
        self._store = store
        self._background = background
        self._polls = Polls(idle)
        self._held: dict[FetchKey, Lease] = {}
        self._flights: dict[FetchKey, Flight[Issued]] = {}
        self._renewals: dict[FetchKey, Flight[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._tender: asyncio.Task[None] | None = None

    def __contains__(self, key: FetchKey) -> bool:
        """Whether a secret is held for exactly this question of this pod."""
        return key in self._held

    def restore(self) -> list[Lease]:
        """Take up what an earlier process held; returns it.

        What no volume uses any more was about to be revoked, and is.
        """
        found = self._store.open(self._clock.monotonic())
        self._held = {lease.key: lease for lease in found if lease.volumes}
        for lease in found:
            lease.issued.grant.leases += bool(lease.id)
            for volume in lease.volumes:
                self._polls.asked(volume, self._clock.monotonic())
        self._give_back([lease for lease in found if not lease.volumes])
        if self._held:
            self._begin_to_tend()
        return list(self._held.values())

    async def obtain(
        self,
        key: FetchKey,
        request: ReadRequest,
        volume: str,
        make: Callable[[], Coroutine[None, None, Issued]],
    ) -> Answer:
        """The secret that is held, or a new one.

        Args:
            key: what is asked, for which pod.
            request: the same as it is sent.
            volume: the target path that uses it.
            make: asks the vault.

        Raises:
            KeyferryError: the vault gives none.
        """
        self._polls.asked(volume, self._clock.monotonic())
        lease = await self._good(key)
        if lease is None:
            flight = self._flights.get(key)
            if flight is None:
                flight = Flight(self._make(key, request, volume, make), lambda: self._made(key))
                self._flights[key] = flight
            issued = await flight.wait()
            lease = self._held.get(key)
            if lease is None:
                return issued.answer
        if volume not in lease.volumes:
            lease.volumes.add(volume)
            self._store.put(lease)
        return lease.issued.answer

    def hold(
        self, key: FetchKey, request: ReadRequest, issued: Issued, volume: str
    ) -> Lease | None:
        """Keep what a vault has made for one pod; None where it has no end that is known."""
        self._prune()
        self._polls.asked(volume, self._clock.monotonic())
        life = lifetime(issued.answer, request, wall=self._clock.wall().timestamp())
        if life is None:
            return None
        expires = self._clock.monotonic() + life
        lease = Lease(key, issued, life, expires, issued.answer.renewable, {volume})
        if lease.id:
            issued.grant.leases += 1
            if issued.shared:
                # The token is now this pod's alone, to be revoked with it; others log in anew.
                issued.forget_token()
        former = self._held.get(key)
        if former is not None:
            lease.volumes |= former.volumes
            _let_go(former)
        self._held[key] = lease
        self._store.put(lease)
        self._begin_to_tend()
        return lease

    def settle(self, volume: str, used: Iterable[FetchKey]) -> None:
        """A volume is mounted and uses these; what it used besides is given back."""
        self._release(volume, keep=frozenset(used))

    def volume_gone(self, volume: str) -> None:
        """A volume is gone; what no other volume uses is revoked, without anybody waiting."""
        self._release(volume, keep=frozenset())

    def endings(self) -> tuple[Ending, ...]:
        """What is renewed no further, for each volume that uses it."""
        now, wall = self._clock.monotonic(), self._clock.wall().timestamp()
        return tuple(
            Ending(volume, lease.expiry(now=now, wall=wall))
            for lease in self._held.values()
            if lease.step(now) is Step.REPLACE
            for volume in sorted(lease.volumes)
        )

    async def tend(self) -> None:
        """Renew what is due now."""
        now = self._clock.monotonic()
        # What no volume uses, because its mount was given up, ends by itself.
        there = [one for one in self._held.values() if self._polls.is_there(one.volumes, now)]
        due = [lease for lease in there if lease.retry_at <= now]
        renewals = (self._renewed(lease) for lease in due if lease.step(now) is Step.RENEW)
        for outcome in await asyncio.gather(*renewals, return_exceptions=True):
            if isinstance(outcome, Exception):
                _log.error("a secret was not renewed", error=type(outcome).__name__)
        self._prune()

    async def close(self) -> None:
        """Stop renewing. Pods go on with what they have, so nothing is revoked."""
        if self._tender is not None:
            self._tender.cancel()
            await asyncio.wait((self._tender,))
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=CLOSE_SECONDS)
            for task in late:
                task.cancel()
        self._store.close()

    def _begin_to_tend(self) -> None:
        if self._background and self._tender is None:
            self._tender = asyncio.create_task(self._tend_always())

    async def _make(
        self,
        key: FetchKey,
        request: ReadRequest,
        volume: str,
        make: Callable[[], Awaitable[Issued]],
    ) -> Issued:
        issued = await make()
        self.hold(key, request, issued, volume)
        return issued

    def _made(self, key: FetchKey) -> None:
        self._flights.pop(key, None)

    async def _good(self, key: FetchKey) -> Lease | None:
        """The secret that is held, renewed if it must be; None where a new one is needed."""
        lease = self._held.get(key)
        if lease is None:
            return None
        if lease.step(self._clock.monotonic()) is Step.RENEW:
            await self._renewed(lease)
        return None if lease.step(self._clock.monotonic()) is Step.REPLACE else lease

    async def _renewed(self, lease: Lease) -> None:
        """Renew a lease and its token; a vault that does not answer is asked again later."""
        flight = self._renewals.get(lease.key)
        if flight is None:
            flight = Flight(self._calls.renew(lease), lambda: self._was_renewed(lease.key))
            self._renewals[lease.key] = flight
        try:
            await flight.wait()
        except KeyferryError as error:
            now = self._clock.monotonic()
            lease.retry_at = now + min(RETRY_SECONDS, (lease.expires - now) / 4)
            _log.warning("a secret could not be renewed yet", **error.log_pairs())
        else:
            self._keep_all_of(lease.issued.grant)

    def _keep_all_of(self, grant: Grant) -> None:
        """A token and what hangs on it have other times now."""
        for lease in self._held.values():
            if lease.issued.grant is grant:
                self._store.put(lease)

    def _was_renewed(self, key: FetchKey) -> None:
        self._renewals.pop(key, None)

    def _prune(self) -> None:
        """Forget what has ended."""
        now = self._clock.monotonic()
        for lease in [lease for lease in self._held.values() if lease.expires <= now]:
            del self._held[lease.key]
            self._store.drop(lease)
            _let_go(lease)

    def _release(self, volume: str, *, keep: frozenset[FetchKey]) -> None:
        gone = []
        for lease in list(self._held.values()):
            if volume in lease.volumes and lease.key not in keep:
                lease.volumes.discard(volume)
                if not lease.volumes:
                    del self._held[lease.key]
                    gone.append(lease)
                # What is to be revoked is known until it is, also to the next process.
                self._store.put(lease)
        self._give_back(gone)

    def _give_back(self, gone: list[Lease]) -> None:
        """Revoke what nobody uses any more, without anybody waiting."""
        leases = []
        for lease in gone:
            if lease.id:
                leases.append(lease)
            else:
                self._store.drop(lease)
        if leases:
            task = asyncio.create_task(self._revoke(leases))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _revoke(self, leases: list[Lease]) -> None:
        for lease in leases:
            _let_go(lease)
        await self._calls.revoke(leases)
        for lease in leases:
            if lease.key not in self._held:
                self._store.drop(lease)

    async def _tend_always(self) -> None:
        while True:
            due = min((lease.due for lease in self._held.values()), default=NEVER)
            left = due - self._clock.monotonic()
            await self._clock.sleep(min(TEND_SECONDS, max(left, SHORTEST_TEND_SECONDS)))
            await self.tend()


def _let_go(lease: Lease) -> None:
    if lease.id:
        lease.issued.grant.leases -= 1
