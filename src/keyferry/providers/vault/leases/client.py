"""What a vault is asked about a secret that is held: to renew it, or to take it back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.errors import KeyferryError
from keyferry.formats.go_json import write_json
from keyferry.providers.vault.auth.session import context_for
from keyferry.providers.vault.http.client import VaultRequest
from keyferry.providers.vault.http.response import MalformedResponseError, parse_response
from keyferry.providers.vault.leases.lease import RENEW_BELOW_SHARE, LeaseAction
from keyferry.resilience.call_context import Purpose
from keyferry.telemetry.logs import get_logger

if TYPE_CHECKING:
    from keyferry.providers.vault.auth.session import VaultTransport
    from keyferry.providers.vault.leases.lease import Lease

_log = get_logger("vault")


class LeaseClient:
    """Changes leases and their tokens to what the vault makes of them.

    Args:
        transport: the way to the vaults.
    """

    def __init__(self, transport: VaultTransport) -> None:
        self._transport = transport
        self._now = transport.now

    async def renew(self, lease: Lease) -> None:
        """Renew a lease and its token, whichever is due.

        Raises:
            KeyferryError: the vault does not answer.
        """
        grant, origin = lease.result.token, lease.result.origin
        if self._now() >= grant.renew_at:
            renewed = await self._transport.renew_token(origin, grant, Purpose.REFRESH)
            grant.renewable = grant.renewable and renewed
        if self._now() < lease.lease_expires_at - lease.ttl * RENEW_BELOW_SHARE:
            return
        asked_at = self._now()
        reply = await self._transport.send(
            origin.server,
            VaultRequest(
                "/v1/sys/leases/renew",
                f"renew a lease of {origin.server}",
                "PUT",
                write_json({"lease_id": lease.id}),
                token=grant.value,
            ),
            context_for(origin, Purpose.REFRESH),
        )
        try:
            answer = parse_response(reply.body) if reply.ok else None
        except MalformedResponseError:
            answer = None
        if answer is not None and answer.lease_seconds:
            lease.lease_expires_at = asked_at + answer.lease_seconds
        if lease.next_action(self._now()) is not LeaseAction.KEEP:
            lease.renewable = False
            _log.warning(
                "a secret cannot be renewed further; the next refresh of its volume gets a new one",
                vault=origin.server.host,
                path=lease.path,
                seconds=round(lease.lease_expires_at - self._now()),
            )

    async def revoke(self, leases: list[Lease]) -> None:
        """Give back: the whole token where nothing else hangs on it, else each lease."""
        done = set()
        for lease in leases:
            issued = lease.result
            try:
                if issued.origin.token_revocable and not issued.token.lease_count:
                    if issued.token.value not in done:
                        done.add(issued.token.value)
                        issued.invalidate_token()
                        await self._send_revoke(lease, "/v1/auth/token/revoke-self", b"{}")
                else:
                    body = write_json({"lease_id": lease.id})
                    await self._send_revoke(lease, "/v1/sys/leases/revoke", body)
            except KeyferryError as error:
                _log.warning("a secret was not revoked; it ends by itself", **error.log_pairs())

    async def _send_revoke(self, lease: Lease, path: str, body: bytes) -> None:
        origin = lease.result.origin
        why = f"revoke a secret of {origin.server}"
        request = VaultRequest(path, why, "PUT", body, token=lease.result.token.value)
        context = context_for(origin, Purpose.REFRESH)
        reply = await self._transport.send(origin.server, request, context)
        if reply.status == 403 and "leases" in path:
            _log.warning(
                "a secret may not be revoked; it ends by itself",
                vault=origin.server.host,
                path=lease.path,
                remedy='add to a policy: path "sys/leases/revoke" { capabilities = ["update"] }',
            )
