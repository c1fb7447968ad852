"""What a vault is asked about a secret that is held: to renew it, or to take it back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.contract import Purpose
from keyferry.errors import KeyferryError
from keyferry.go_json import write_json
from keyferry.logs import get_logger
from keyferry.vault.answer import BadAnswerError, read_answer
from keyferry.vault.http import VaultRequest
from keyferry.vault.lease import RENEW_BELOW, Step

if TYPE_CHECKING:
    from keyferry.vault.lease import Lease
    from keyferry.vault.session import Vaults

_log = get_logger("vault")


class LeaseCalls:
    """Changes leases and their tokens to what the vault makes of them.

    Args:
        vaults: the way to the vaults.
    """

    def __init__(self, vaults: Vaults) -> None:
        self._vaults = vaults
        self._now = vaults.now

    async def renew(self, lease: Lease) -> None:
        """Renew a lease and its token, whichever is due.

        Raises:
            KeyferryError: the vault does not answer.
        """
        grant, origin = lease.issued.grant, lease.issued.origin
        if self._now() >= grant.renew_at:
            renewed = await self._vaults.renew(origin, grant, Purpose.REFRESH)
            grant.renewable = grant.renewable and renewed
        if self._now() < lease.expires - lease.life * RENEW_BELOW:
            return
        asked_at = self._now()
        reply = await self._vaults.send(
            origin.server,
            VaultRequest(
                "/v1/sys/leases/renew",
                f"renew a lease of {origin.server}",
                "PUT",
                write_json({"lease_id": lease.id}),
                token=grant.token,
            ),
            self._vaults.errand(origin, Purpose.REFRESH),
        )
        try:
            answer = read_answer(reply.body) if reply.good else None
        except BadAnswerError:
            answer = None
        if answer is not None and answer.seconds:
            lease.expires = asked_at + answer.seconds
        if lease.step(self._now()) is not Step.KEEP:
            lease.renewable = False
            _log.warning(
                "a secret cannot be renewed further; the next refresh of its volume gets a new one",
                vault=origin.server.host,
                path=lease.path,
                seconds=round(lease.expires - self._now()),
            )

    async def revoke(self, leases: list[Lease]) -> None:
        """Give back: the whole token where nothing else hangs on it, else each lease."""
        done = set()
        for lease in leases:
            issued = lease.issued
            try:
                if issued.origin.own_token and not issued.grant.leases:
                    if issued.grant.token not in done:
                        done.add(issued.grant.token)
                        issued.forget_token()
                        await self._put(lease, "/v1/auth/token/revoke-self", b"{}")
                else:
                    body = write_json({"lease_id": lease.id})
                    await self._put(lease, "/v1/sys/leases/revoke", body)
            except KeyferryError as error:
                _log.warning("a secret was not revoked; it ends by itself", **error.log_pairs())

    async def _put(self, lease: Lease, path: str, body: bytes) -> None:
        origin = lease.issued.origin
        why = f"revoke a secret of {origin.server}"
        request = VaultRequest(path, why, "PUT", body, token=lease.issued.grant.token)
        errand = self._vaults.errand(origin, Purpose.REFRESH)
        reply = await self._vaults.send(origin.server, request, errand)
        if reply.status == 403 and "leases" in path:
            _log.warning(
                "a secret may not be revoked; it ends by itself",
                vault=origin.server.host,
                path=lease.path,
                remedy='add to a policy: path "sys/leases/revoke" { capabilities = ["update"] }',
            )
