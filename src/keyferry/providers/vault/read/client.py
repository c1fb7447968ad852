"""Asks a vault as one identity: with one new login where a token that was kept is refused.

Source: docs/reference/upstream-vault-provider.md#renewed-login
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import quote

from keyferry.errors import KeyferryError, VaultError
from keyferry.formats.go_json import JsonNumber, NotJsonError, read_json
from keyferry.providers.vault.http.client import RawResponse, VaultRequest
from keyferry.providers.vault.http.http_errors import safe_to_quote
from keyferry.providers.vault.http.response import (
    MalformedResponseError,
    VaultResponse,
    parse_response,
)
from keyferry.providers.vault.read.read_errors import SecretsEngine, read_error
from keyferry.telemetry.logs import get_logger

if TYPE_CHECKING:
    from keyferry.providers.vault.api_path import ApiPath
    from keyferry.providers.vault.auth.session import VaultTransport
    from keyferry.providers.vault.auth.session_cache import OpenSession
    from keyferry.providers.vault.auth.token import VaultToken
    from keyferry.providers.vault.objects import ReadRequest
    from keyferry.resilience.call_context import CallContext

_log = get_logger("vault")


class VaultClient:
    """One vault as one identity sees it.

    Args:
        transport: the way to it.
        session: as whom.
        context: of the call.

    Attributes:
        session: the same.
    """

    def __init__(
        self, transport: VaultTransport, session: OpenSession, context: CallContext
    ) -> None:
        self._transport = transport
        self.session = session
        self._context = context
        self._server = session.login.server

    async def read(self, request: ReadRequest) -> tuple[VaultResponse, VaultToken]:
        """Read one path; returns what is there and the token that it was read with.

        Raises:
            IdentityError: the vault refuses the login.
            AccessDeniedError: it does not let this identity read.
            ObjectNotFoundError: there is nothing at the path.
            VaultError: it does not answer, or not with a secret.
        """
        sent = VaultRequest(
            request.path.encoded,
            f"read {request} from {self._server}",
            request.method,
            request.arguments,
            idempotent=request.cacheable,
        )
        reply, grant = await self._send(sent)
        if not reply.ok:
            raise await self._error_for(request, grant, reply)
        try:
            answer = parse_response(reply.body)
        except MalformedResponseError as error:
            raise VaultError(
                f"the answer of {self._server} at {request} cannot be used: {error}",
                f"Check that {self._server.host} is a vault and that no proxy answers.",
            ) from None
        for warning in safe_to_quote(answer.warnings or (), secrets=(grant.value,)):
            _log.warning("the vault warns", vault=self._server.host, warning=warning)
        return answer, grant

    async def list_folder(self, path: ApiPath) -> VaultResponse | None:
        """What a list says; None where this identity gets none, or it is no answer of a vault.

        Raises:
            KeyferryError: the vault cannot be asked now.
        """
        sent = VaultRequest(path.encoded, f"list {path} of {self._server}")
        reply, _ = await self._send(sent)
        try:
            return parse_response(reply.body) if reply.ok else None
        except MalformedResponseError:
            return None

    async def _send(self, request: VaultRequest) -> tuple[RawResponse, VaultToken]:
        """The reply, and the token that it came to; a refusal is none of an old token's."""
        grant = await self.session.get_token(self._context.purpose)
        reply = await self._send_with(grant, request)
        if reply.status == 403 and self.session.is_from_cache(grant):
            self.session.underlying.invalidate(grant)
            grant = await self.session.get_token(self._context.purpose)
            reply = await self._send_with(grant, request)
        return reply, grant

    async def _send_with(self, token: VaultToken, request: VaultRequest) -> RawResponse:
        sent = replace(request, token=token.value)
        return await self._transport.send(self._server, sent, self._context)

    async def _error_for(
        self, request: ReadRequest, token: VaultToken, response: RawResponse
    ) -> VaultError:
        errors, engine = response.errors, None
        if response.status == 404:
            errors += _parse_warnings(response.body)
        if response.status in (403, 404):
            engine = await self._find_engine(request, token)
        login = self.session.login
        return read_error(response.status, errors, request, login, engine=engine, token=token.value)

    async def _find_engine(self, request: ReadRequest, token: VaultToken) -> SecretsEngine | None:
        """What the path leads into; None where the vault does not say."""
        path = f"/v1/sys/internal/ui/mounts/{quote(request.path.path)}"
        question = VaultRequest(path, f"find the engine of {request}", token=token.value)
        try:
            reply = await self._transport.send(self._server, question, self._context)
            document = read_json(reply.body) if reply.status == 200 else None
        except (KeyferryError, NotJsonError):
            return None
        data = document.get("data") if isinstance(document, dict) else None
        if not isinstance(data, dict):
            return None
        mount, kind, options = data.get("path"), data.get("type"), data.get("options")
        if not isinstance(mount, str) or not isinstance(kind, str):
            return None
        version = options.get("version") if isinstance(options, dict) else None
        second = version in ("2", JsonNumber("2"))
        return SecretsEngine(mount.strip("/"), kind, (2 if second else 1) if kind == "kv" else 0)


def _parse_warnings(body: bytes) -> tuple[str, ...]:
    try:
        return parse_response(body).warnings or ()
    except MalformedResponseError:
        return ()
