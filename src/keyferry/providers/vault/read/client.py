"""Reads from a vault as one identity, and logs in again once if a cached token is rejected.

Source: docs/reference/upstream-vault-provider.md#renewed-login
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import quote

from keyferry.errors import KeyferryError, VaultError
from keyferry.formats.go_json import JsonNumber, NotJsonError, read_json
from keyferry.net.exchange import uncounted
from keyferry.providers.vault.http.client import RawResponse, VaultRequest
from keyferry.providers.vault.http.http_errors import safe_to_quote
from keyferry.providers.vault.http.response import (
    MalformedResponseError,
    VaultResponse,
    parse_response,
)
from keyferry.providers.vault.read.read_errors import Deletion, SecretsEngine, read_error
from keyferry.records import replace
from keyferry.telemetry.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from keyferry.providers.mount_limits import MountBudget
    from keyferry.providers.vault.api_path import ApiPath
    from keyferry.providers.vault.auth.session import VaultTransport
    from keyferry.providers.vault.auth.session_cache import OpenSession
    from keyferry.providers.vault.auth.token import VaultToken
    from keyferry.providers.vault.objects import ReadRequest
    from keyferry.resilience.call_context import CallContext

_log = get_logger("vault")


class VaultClient:
    """Client of one vault for one identity.

    Args:
        transport: sends requests to vaults.
        session: session with the identity.
        context: context of the call.
        budget: what the mount may receive; None to count nothing.

    Attributes:
        session: session with the identity.
    """

    def __init__(
        self,
        transport: VaultTransport,
        session: OpenSession,
        context: CallContext,
        budget: MountBudget | None = None,
    ) -> None:
        self._transport = transport
        self.session = session
        self._context = context
        self._receiving = uncounted if budget is None else budget.receiving
        self._server = session.login.server

    async def read(self, request: ReadRequest) -> tuple[VaultResponse, VaultToken]:
        """Send a read request.

        Returns:
            The response, and the token that it was read with.

        Raises:
            IdentityError: the vault rejected the login.
            AccessDeniedError: the identity is not permitted to read the path.
            ObjectNotFoundError: there is no secret at the path.
            VaultError: the vault does not respond, or its response is unusable.
            MountLimitError: the tenant of the mount holds too much.
        """
        with self._receiving() as count:
            return await self._read(request, count)

    async def _read(
        self, request: ReadRequest, count: Callable[[int], None]
    ) -> tuple[VaultResponse, VaultToken]:
        http_request = VaultRequest(
            request.path.encoded,
            f"read {request} from {self._server}",
            request.method,
            request.arguments,
            idempotent=request.cacheable,
            count=count,
        )
        raw, token = await self._send(http_request)
        if not raw.ok:
            raise await self._error_for(request, token, raw)
        try:
            response = parse_response(raw.body, bare=not raw.from_other_host)
        except MalformedResponseError as error:
            raise VaultError(
                f"the response of {self._server} for {request} cannot be used: {error}",
                f"Check that {self._server.host} is a vault and that no proxy responds instead.",
            ) from None
        for warning in safe_to_quote(response.warnings or (), secrets=(token.value,)):
            _log.warning_once("warning from the vault", vault=self._server.host, warning=warning)
        return response, token

    async def list_folder(self, path: ApiPath) -> VaultResponse | None:
        """Send a list request.

        Returns:
            The response; None if the list is denied, or the response is not that of a vault.

        Raises:
            KeyferryError: the vault is unavailable.
        """
        request = VaultRequest(path.encoded, f"list {path} of {self._server}")
        raw, _ = await self._send(request)
        try:
            return parse_response(raw.body, bare=not raw.from_other_host) if raw.ok else None
        except MalformedResponseError:
            return None

    async def _send(self, request: VaultRequest) -> tuple[RawResponse, VaultToken]:
        """Send a request; if a cached token gets status 403, log in and send it once more.

        Returns:
            The response, and the token that the request was sent with.
        """
        token = await self.session.get_token(self._context.purpose)
        raw = await self._send_with(token, request)
        if raw.status == 403 and self.session.is_from_cache(token):
            self.session.underlying.invalidate(token)
            token = await self.session.get_token(self._context.purpose)
            raw = await self._send_with(token, request)
        return raw, token

    async def _send_with(self, token: VaultToken, request: VaultRequest) -> RawResponse:
        authenticated = replace(request, token=token.value)
        return await self._transport.send(self._server, authenticated, self._context)

    async def _error_for(
        self, request: ReadRequest, token: VaultToken, response: RawResponse
    ) -> VaultError:
        errors, engine, deletion = response.errors, None, None
        if response.status == 404:
            errors += _parse_warnings(response.body)
            deletion = _parse_deletion(response.body)
        if response.status in (403, 404):
            engine = await self._find_engine(request, token)
        login = self.session.login
        return read_error(
            response.status,
            errors,
            request,
            login,
            engine=engine,
            deletion=deletion,
            token=token.value,
        )

    async def _find_engine(self, request: ReadRequest, token: VaultToken) -> SecretsEngine | None:
        """Return the secrets engine of a path; None if the vault does not report it."""
        path = f"/v1/sys/internal/ui/mounts/{quote(request.path.path)}"
        lookup = VaultRequest(path, f"find the secrets engine of {request}", token=token.value)
        try:
            raw = await self._transport.send(self._server, lookup, self._context)
            document = read_json(raw.body) if raw.status == 200 else None
        except (KeyferryError, NotJsonError):
            return None
        data = document.get("data") if isinstance(document, dict) else None
        if not isinstance(data, dict):
            return None
        mount, engine_type, options = data.get("path"), data.get("type"), data.get("options")
        if not isinstance(mount, str) or not isinstance(engine_type, str):
            return None
        if engine_type != "kv":
            return SecretsEngine(mount.strip("/"), engine_type)
        version = options.get("version") if isinstance(options, dict) else None
        is_v2 = version in ("2", JsonNumber("2"))
        return SecretsEngine(mount.strip("/"), engine_type, 2 if is_v2 else 1)


def _parse_deletion(body: bytes) -> Deletion | None:
    """Return what a 404 of KV version 2 says of a deleted version."""
    try:
        data = parse_response(body).data
    except MalformedResponseError:
        return None
    metadata = data.get("metadata") if data else None
    if not isinstance(metadata, Mapping):
        return None
    version, at = metadata.get("version"), metadata.get("deletion_time")
    if not isinstance(version, JsonNumber):
        return None
    return Deletion(
        str(version), at if isinstance(at, str) else "", metadata.get("destroyed") is True
    )


def _parse_warnings(body: bytes) -> tuple[str, ...]:
    try:
        return parse_response(body).warnings or ()
    except MalformedResponseError:
        return ()
