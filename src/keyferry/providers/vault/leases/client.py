"""Sends the requests that renew and revoke leases."""

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
    """Renews and revokes leases and their tokens at the vault.

    Args:
        transport: sends requests to vaults.
    """

    def __init__(self, transport: VaultTransport) -> None:
        self._transport = transport
        self._now = transport.now

    async def renew(self, lease: Lease) -> None:
        """Renew a lease, its token, or both, whichever is due, and update their times.

        Raises:
            KeyferryError: the vault does not respond.
        """
        token, origin = lease.result.token, lease.result.origin
        if self._now() >= token.renew_at:
            renewed = await self._transport.renew_token(origin, token, Purpose.REFRESH)
            token.renewable = token.renewable and renewed
        if self._now() < lease.lease_expires_at - lease.ttl * RENEW_BELOW_SHARE:
            return
        requested_at = self._now()
        raw = await self._transport.send(
            origin.server,
            VaultRequest(
                "/v1/sys/leases/renew",
                f"renew a lease of {origin.server}",
                "PUT",
                write_json({"lease_id": lease.id}),
                token=token.value,
            ),
            context_for(origin, Purpose.REFRESH),
        )
        try:
            response = parse_response(raw.body) if raw.ok else None
        except MalformedResponseError:
            response = None
        if response is not None and response.lease_seconds:
            lease.lease_expires_at = requested_at + response.lease_seconds
        # As of the request: a slow answer does not make the lease shorter.
        if lease.next_action(requested_at) is not LeaseAction.KEEP:
            lease.renewable = False
            _log.warning(
                "lease cannot be renewed further; the next refresh of the volume gets a new secret",
                vault=origin.server.host,
                path=lease.path,
                seconds=round(lease.lease_expires_at - self._now()),
            )

    async def revoke(self, leases: list[Lease]) -> None:
        """Revoke leases. A failure is logged: the lease then expires at the end of its lifetime.

        A token of Keyferry that no tracked lease depends on is revoked as a whole, together with
        its leases. Otherwise each lease is revoked on its own.
        """
        revoked_tokens = set()
        for lease in leases:
            result = lease.result
            try:
                if result.origin.token_revocable and not result.token.lease_count:
                    if result.token.value not in revoked_tokens:
                        revoked_tokens.add(result.token.value)
                        result.invalidate_token()
                        await self._send_revoke(lease, "/v1/auth/token/revoke-self", b"{}")
                else:
                    body = write_json({"lease_id": lease.id})
                    await self._send_revoke(lease, "/v1/sys/leases/revoke", body)
            except KeyferryError as error:
                _log.warning(
                    "failed to revoke a lease; it expires at the end of its lifetime",
                    **error.log_pairs(),
                )

    async def _send_revoke(self, lease: Lease, path: str, body: bytes) -> None:
        origin = lease.result.origin
        action = f"revoke a secret of {origin.server}"
        request = VaultRequest(path, action, "PUT", body, token=lease.result.token.value)
        context = context_for(origin, Purpose.REFRESH)
        response = await self._transport.send(origin.server, request, context)
        if response.status == 403 and "leases" in path:
            _log.warning(
                "not permitted to revoke a lease; it expires at the end of its lifetime",
                vault=origin.server.host,
                path=lease.path,
                remedy='add to a policy: path "sys/leases/revoke" { capabilities = ["update"] }',
            )
