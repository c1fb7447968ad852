"""The secrets that were made for the pods of this node: held, renewed, replaced, given back.

A dynamic secret is asked for once and held as long as a volume of its pod uses it. It is renewed
before it ends; where the vault renews it no further, the next refresh of the volume gets a new one.
With the last volume it is revoked. What is held is in memory alone: after a restart of the process
nothing is known of it, the next refresh gets a new secret, and the old one ends by itself.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from keyferry.contract import Purpose
from keyferry.economy.flights import Flight
from keyferry.errors import KeyferryError
from keyferry.go_json import write_json
from keyferry.logs import get_logger
from keyferry.vault.answer import BadAnswerError, read_answer
from keyferry.vault.grant import NEVER
from keyferry.vault.http import VaultRequest
from keyferry.vault.lease import RENEW_BELOW, Lease, Step, lifetime

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable

    from keyferry.clocks import Clock
    from keyferry.economy.key import FetchKey
    from keyferry.vault.answer import Answer
    from keyferry.vault.lease import Issued
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
        background: whether secrets are renewed between mounts. Only where somebody tells when
            volumes go, or nothing would ever end.
    """

    def __init__(self, vaults: Vaults, clock: Clock, *, background: bool) -> None:
        self._vaults = vaults
        self._clock = clock
        self._background = background
        self._held: dict[FetchKey, Lease] = {}
        self._flights: dict[FetchKey, Flight[Issued]] = {}
        self._renewals: dict[FetchKey, Flight[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._tender: asyncio.Task[None] | None = None

    def __contains__(self, key: FetchKey) -> bool:
        """Whether a secret is held for exactly this question of this pod."""
        return key in self._held

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
        lease = await self._good(key)
        if lease is None:
            flight = self._flights.get(key)
            if flight is None:
                flight = Flight(self._make(key, request, make), lambda: self._made(key))
                self._flights[key] = flight
            issued = await flight.wait()
            lease = self._held.get(key)
            if lease is None:
                return issued.answer
        lease.volumes.add(volume)
        return lease.issued.answer

    def hold(self, key: FetchKey, request: ReadRequest, issued: Issued) -> Lease | None:
        """Keep what a vault has made for one pod; None where it has no end that is known."""
        self._prune()
        life = lifetime(issued.answer, request, wall=self._clock.wall().timestamp())
        if life is None:
            return None
        lease = Lease(key, issued, life, self._clock.monotonic() + life, issued.answer.renewable)
        if lease.id:
            issued.grant.leases += 1
            if issued.shared:
                # The token is now this pod's alone, to be revoked with it; others log in anew.
                issued.session.forget(issued.grant)
        former = self._held.get(key)
        if former is not None:
            lease.volumes |= former.volumes
            _let_go(former)
        self._held[key] = lease
        if self._background and self._tender is None:
            self._tender = asyncio.create_task(self._tend_always())
        return lease

    def settle(self, volume: str, used: Iterable[FetchKey]) -> None:
        """A volume is mounted and uses these; what it used besides is given back."""
        self._release(volume, keep=frozenset(used))

    def volume_gone(self, volume: str) -> None:
        """A volume is gone; what no other volume uses is revoked, without anybody waiting."""
        self._release(volume, keep=frozenset())

    async def tend(self) -> None:
        """Renew what is due now."""
        now = self._clock.monotonic()
        # What no volume uses, because its mount was given up, ends by itself.
        due = [lease for lease in self._held.values() if lease.volumes and lease.retry_at <= now]
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

    async def _make(
        self, key: FetchKey, request: ReadRequest, make: Callable[[], Awaitable[Issued]]
    ) -> Issued:
        issued = await make()
        self.hold(key, request, issued)
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
            flight = Flight(self._renew(lease), lambda: self._was_renewed(lease.key))
            self._renewals[lease.key] = flight
        try:
            await flight.wait()
        except KeyferryError as error:
            now = self._clock.monotonic()
            lease.retry_at = now + min(RETRY_SECONDS, (lease.expires - now) / 4)
            _log.warning("a secret could not be renewed yet", **error.log_pairs())

    def _was_renewed(self, key: FetchKey) -> None:
        self._renewals.pop(key, None)

    async def _renew(self, lease: Lease) -> None:
        grant, server = lease.issued.grant, lease.issued.login.server
        if self._clock.monotonic() >= grant.renew_at:
            renewed = await self._vaults.renew(lease.issued.login, grant, Purpose.REFRESH)
            grant.renewable = grant.renewable and renewed
        if self._clock.monotonic() < lease.expires - lease.life * RENEW_BELOW:
            return
        reply = await self._vaults.send(
            server,
            VaultRequest(
                "/v1/sys/leases/renew",
                f"renew a lease of {server}",
                "PUT",
                write_json({"lease_id": lease.id}),
                token=grant.token,
            ),
            self._vaults.errand(lease.issued.login, Purpose.REFRESH),
        )
        try:
            answer = read_answer(reply.body) if reply.good else None
        except BadAnswerError:
            answer = None
        if answer is not None and answer.seconds:
            lease.expires = self._clock.monotonic() + answer.seconds
        if lease.step(self._clock.monotonic()) is not Step.KEEP:
            lease.renewable = False
            _log.warning(
                "a secret cannot be renewed further; the next refresh of its volume gets a new one",
                vault=server.host,
                path=lease.key.item[1],
                seconds=round(lease.expires - self._clock.monotonic()),
            )

    def _prune(self) -> None:
        """Forget what has ended."""
        now = self._clock.monotonic()
        for lease in [lease for lease in self._held.values() if lease.expires <= now]:
            del self._held[lease.key]
            _let_go(lease)

    def _release(self, volume: str, *, keep: frozenset[FetchKey]) -> None:
        gone = []
        for lease in list(self._held.values()):
            if volume in lease.volumes and lease.key not in keep:
                lease.volumes.discard(volume)
                if not lease.volumes:
                    del self._held[lease.key]
                    gone.append(lease)
        leases = [lease for lease in gone if lease.id]
        if leases:
            task = asyncio.create_task(self._revoke(leases))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _revoke(self, leases: list[Lease]) -> None:
        """Give back: the whole token where nothing else hangs on it, else each lease."""
        for lease in leases:
            _let_go(lease)
        done = set()
        for lease in leases:
            issued = lease.issued
            try:
                if issued.own_token and not issued.grant.leases:
                    if issued.grant.token not in done:
                        done.add(issued.grant.token)
                        issued.session.forget(issued.grant)
                        await self._put(lease, "/v1/auth/token/revoke-self", b"{}")
                else:
                    body = write_json({"lease_id": lease.id})
                    await self._put(lease, "/v1/sys/leases/revoke", body)
            except KeyferryError as error:
                _log.warning("a secret was not revoked; it ends by itself", **error.log_pairs())

    async def _put(self, lease: Lease, path: str, body: bytes) -> None:
        server = lease.issued.login.server
        why = f"revoke a secret of {server}"
        request = VaultRequest(path, why, "PUT", body, token=lease.issued.grant.token)
        errand = self._vaults.errand(lease.issued.login, Purpose.REFRESH)
        reply = await self._vaults.send(server, request, errand)
        if reply.status == 403 and "leases" in path:
            _log.warning(
                "a secret may not be revoked; it ends by itself",
                vault=server.host,
                path=lease.key.item[1],
                remedy='add to a policy: path "sys/leases/revoke" { capabilities = ["update"] }',
            )

    async def _tend_always(self) -> None:
        while True:
            due = min((lease.due for lease in self._held.values()), default=NEVER)
            left = due - self._clock.monotonic()
            await self._clock.sleep(min(TEND_SECONDS, max(left, SHORTEST_TEND_SECONDS)))
            await self.tend()


def _let_go(lease: Lease) -> None:
    if lease.id:
        lease.issued.grant.leases -= 1
