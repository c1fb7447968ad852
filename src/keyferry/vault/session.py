"""One login and the token that came of it: kept, renewed, and asked for once by all who wait."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from keyferry.economy.flights import Flight
from keyferry.errors import IdentityError, KeyferryError
from keyferry.vault.answer import BadAnswerError, read_answer
from keyferry.vault.grant import Grant, read_grant
from keyferry.vault.http import VaultReply, VaultRequest
from keyferry.vault.login import JwtLogin, Login, TokenLogin
from keyferry.vault.login_refusals import login_error

if TYPE_CHECKING:
    from keyferry.clocks import Clock
    from keyferry.contract import Purpose
    from keyferry.economy.errand import Errand
    from keyferry.economy.hub import Economy
    from keyferry.retry import TryFailed
    from keyferry.vault.http import VaultHttp
    from keyferry.vault.pod_tokens import PodTokens
    from keyferry.vault.server import Server

RENEW_SELF = "/v1/auth/token/renew-self"


class Asker(Protocol):
    """Who asks which vault."""

    @property
    def server(self) -> Server:
        """The vault."""

    @property
    def mode(self) -> str:
        """The kind of the login, one word."""


class Vaults:
    """The way to all vaults: requests in their turns, with further tries.

    Args:
        http: makes single requests.
        economy: decides about turns and tries.
        clock: how time passes.
    """

    def __init__(self, http: VaultHttp, economy: Economy, clock: Clock) -> None:
        self._http = http
        self._economy = economy
        self.now = clock.monotonic

    def errand(self, asker: Asker, purpose: Purpose) -> Errand:
        """For requests that are not shared."""
        return self._economy.errand(asker.server.host, purpose, mode=asker.mode)

    async def send(self, server: Server, request: VaultRequest, errand: Errand) -> VaultReply:
        """The answer to a request, be it a refusal.

        Raises:
            VaultError: none came, or the vault says "later" to the last.
        """

        async def attempt(seconds: float) -> VaultReply | TryFailed:
            return await self._http.send(server, request, seconds)

        return await errand.run(attempt)

    async def renew(self, asker: Asker, grant: Grant, purpose: Purpose) -> bool:
        """Have a token renewed; whether the vault did.

        Raises:
            VaultError: the vault does not answer.
        """
        why = f"renew a token of {asker.server}"
        request = VaultRequest(RENEW_SELF, why, "PUT", b"{}", token=grant.token)
        now = self.now()
        reply = await self.send(asker.server, request, self.errand(asker, purpose))
        if not reply.good:
            return False
        try:
            renewed = read_grant(read_answer(reply.body), now)
        except BadAnswerError:
            return False
        # Near the greatest age that it may have, a token is renewed for ever shorter times.
        shrinks = renewed.life and renewed.life < grant.life / 3
        grant.life, grant.since = renewed.life, now
        grant.renewable = renewed.renewable and not shrinks
        return True


class Session:
    """The token of one identity.

    Args:
        vaults: where it is asked for.
        tokens: makes service-account tokens where kubelet sent none.
    """

    def __init__(self, vaults: Vaults, tokens: PodTokens) -> None:
        self._vaults = vaults
        self._tokens = tokens
        self._grant: Grant | None = None
        self._flight: tuple[Login, Flight[Grant]] | None = None

    @property
    def current(self) -> Grant | None:
        """The token that is kept, good or not."""
        return self._grant

    async def grant(self, login: Login, purpose: Purpose) -> Grant:
        """A token that should be good.

        Args:
            login: with the newest proof of this identity.
            purpose: why.

        Raises:
            IdentityError: the vault refuses the login.
            VaultError: it does not answer.
        """
        kept = self._grant
        if kept is not None and self._vaults.now() < kept.renew_at:
            return kept
        joined = self._flight
        if joined is None:
            return await self._start(login, purpose).wait()
        try:
            return await joined[1].wait()
        except KeyferryError:
            if joined[0].method == login.method:
                raise
        # It failed with the proof of another pod; ours may be newer.
        flight = self._flight[1] if self._flight else self._start(login, purpose)
        return await flight.wait()

    def forget(self, grant: Grant) -> None:
        """Drop a token that was refused, unless there is a newer one."""
        if self._grant is grant:
            self._grant = None

    def _start(self, login: Login, purpose: Purpose) -> Flight[Grant]:
        flight = Flight(self._obtain(login, purpose), self._landed)
        self._flight = (login, flight)
        return flight

    def _landed(self) -> None:
        self._flight = None

    async def _obtain(self, login: Login, purpose: Purpose) -> Grant:
        kept = self._grant
        if kept is not None and kept.renewable and self._vaults.now() < kept.expires:
            renewed = await self._vaults.renew(login, kept, purpose)
            if renewed and self._vaults.now() < kept.renew_at:
                return kept
        self._grant = await self._log_in(login, purpose)
        return self._grant

    async def _log_in(self, login: Login, purpose: Purpose) -> Grant:
        if isinstance(login.method, TokenLogin):
            return Grant(login.method.token, life=0, since=self._vaults.now(), renewable=False)
        jwt = ""
        if isinstance(login.method, JwtLogin):
            jwt = login.method.token or await self._tokens.make(login.pod, login.method.audience)
        why = f"log in to {login.server} at auth/{login.mount}"
        request = VaultRequest(
            f"/v1/{login.path}", why, "POST", login.body(jwt), secrets=login.secrets(jwt)
        )
        now = self._vaults.now()
        errand = self._vaults.errand(login, purpose)
        reply = await self._vaults.send(login.server, request, errand)
        if not reply.good:
            raise login_error(reply.status, reply.errors, login, secrets=request.secrets)
        try:
            return read_grant(read_answer(reply.body), now)
        except BadAnswerError as error:
            raise IdentityError(
                f"failed to {why}: the answer cannot be used: {error}",
                f"Check that auth/{login.mount} is an auth method for machines, and that "
                f"{login.server.host} is a vault.",
            ) from None
