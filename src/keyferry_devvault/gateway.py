"""Routes each request from the web server to the service that its host name selects."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, NoReturn, assert_never

import msgspec
from aiohttp import web

from keyferry.errors import KeyferryError
from keyferry.records import replace
from keyferry_devvault.clouds import (
    LoginHost,
    TokenProxyHost,
    UnknownHost,
    VaultHost,
    host_without_port,
    parse_host,
)
from keyferry_devvault.entra.access_tokens import AccessTokens
from keyferry_devvault.entra.token_endpoint import Entra
from keyferry_devvault.http_types import (
    HttpError,
    Request,
    Response,
    request_kind,
    vault_error_response,
)
from keyferry_devvault.keyvault.objects import ObjectsApi
from keyferry_devvault.keyvault.secrets import SecretsApi
from keyferry_devvault.keyvault.vault import KeyVaultApi
from keyferry_devvault.machine.arc import ARC_HOST, Arc
from keyferry_devvault.machine.imds import Imds
from keyferry_devvault.machine.nmi import NMI_HOST, Nmi
from keyferry_devvault.model import CloseMidResponse, Hang, RespondStatus
from keyferry_devvault.request_log import NO_STATUS, RequestLog, RequestRecord
from keyferry_devvault.server_names import ServerNames
from keyferry_devvault.throttle import Throttle

if TYPE_CHECKING:
    from keyferry_devvault.storage.data import DevVaultData

STATUS_PATH = "/devvault/requests"
"""Path on the plain port of the request counts, for `keyferry devvault status`."""

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Gateway:
    """Handles the requests of both ports: first injected faults, then the service by host name."""

    def __init__(
        self,
        data: DevVaultData,
        request_log: RequestLog,
        wall_time: Callable[[], float],
        server_names: ServerNames | None = None,
    ) -> None:
        """Use `wall_time` as Unix time, and `server_names` for the TLS server name of a client."""
        self._server_names = server_names or ServerNames()
        tokens = AccessTokens(data.signing_keys)
        secrets = SecretsApi(data.secrets)
        keys = ObjectsApi(data.vault_keys, data.certificates)
        certificates = ObjectsApi(data.certificate_table, data.certificates)
        self._hints = data.hints
        self._fault_note = f"injected fault; remove all: {data.hints.line('tune', '--clear')}"
        self._fault_injection = data.fault_injection
        self._request_log = request_log
        self._wall_time = wall_time
        self._throttle = Throttle()
        self._entra = Entra(data, tokens)
        self._imds = Imds(data, tokens)
        self._nmi = Nmi(data, tokens)
        self._arc = Arc(self._imds, data.folder / "arc")
        self._vault = KeyVaultApi(
            data,
            tokens,
            {
                "secrets": secrets.handle,
                "deletedsecrets": secrets.handle,
                "keys": keys.handle,
                "deletedkeys": keys.handle,
                "certificates": certificates.handle,
                "deletedcertificates": certificates.handle,
            },
        )

    async def serve_https(self, request: web.BaseRequest) -> web.StreamResponse:
        """Respond on the TLS port: vaults, login hosts, token proxy of AKS."""
        return await self._serve(request, self._https_response)

    async def serve_http(self, request: web.BaseRequest) -> web.StreamResponse:
        """Respond on the plain port: IMDS, Azure Arc agent, NMI."""
        return await self._serve(request, self._http_response)

    async def _serve(
        self, request: web.BaseRequest, route: Callable[[Request], Awaitable[Response]]
    ) -> web.StreamResponse:
        """Handle one request and record it, also after an error."""
        self._request_log.begin()
        response = Response(NO_STATUS)
        try:
            action = self._fault_injection.consume_fault(
                host_without_port(request.host), request.path
            )
            if action is not None and not isinstance(action, RespondStatus):
                response = Response(NO_STATUS, note=self._fault_note)
                await _inject_fault(request, action)
            elif action is not None:
                response = self._fault_response(action)
            else:
                try:
                    response = await route(await self._parse_request(request))
                except HttpError as error:
                    response = error.response
                except KeyferryError as error:
                    body = vault_error_response(500, "InternalServerError", "See the log.").body
                    response = Response(500, body, note=str(error))
            return _web_response(response)
        finally:
            self._request_log.end(_request_record(request, response, at=self._wall_time()))

    async def _https_response(self, request: Request) -> Response:
        service = parse_host(request.host)
        match service:
            case VaultHost():
                return await self._vault_response(request, service)
            case LoginHost():
                return self._entra.handle(request, service)
            case TokenProxyHost():
                return self._entra.handle_token_proxy(request, service)
            case UnknownHost(host):
                message = (
                    f"The development vault does not emulate the host '{host}'. Use a host of the"
                    " cloud and redirect the connection, for example with curl --connect-to."
                )
                raise HttpError(vault_error_response(404, "HostNotFound", message))
            case _:
                assert_never(service)

    async def _vault_response(self, request: Request, host: VaultHost) -> Response:
        tuning = self._fault_injection.tuning()
        if tuning.latency:
            await asyncio.sleep(tuning.latency)
        if not self._throttle.admits(host.vault, limit=tuning.throttle, now=self._wall_time()):
            throttled = vault_error_response(
                429,
                "Throttled",
                "Request was not processed because too many requests were received."
                " Reason: VaultRequestTypeLimitReached",
            )
            return replace(
                throttled,
                headers={"Retry-After": str(tuning.retry_after)},
                note=f"stop throttling: {self._hints.line('tune', '--throttle', 'off')}",
            )
        return self._vault.handle(request, host)

    async def _http_response(self, request: Request) -> Response:
        if request.path == STATUS_PATH:
            rows = self._request_log.counts.items()
            return Response(200, {f"{method} {kind}": count for (method, kind), count in rows})
        if request.host == NMI_HOST:
            return self._nmi.handle(request)
        if request.host == ARC_HOST:
            return self._arc.handle(request)
        return self._imds.handle(request)

    def _fault_response(self, action: RespondStatus) -> Response:
        headers = {} if action.retry_after is None else {"Retry-After": str(action.retry_after)}
        failure = vault_error_response(
            action.status,
            "FaultInjected",
            "A fault was injected into the development vault.",
            action.code,
        )
        return replace(
            failure,
            headers=headers,
            note=self._fault_note,
        )

    async def _parse_request(self, request: web.BaseRequest) -> Request:
        return Request(
            method=request.method,
            host=request.host,
            path=request.path,
            query=dict(request.query),
            headers={name.lower(): value for name, value in request.headers.items()},
            body=await request.read() if request.can_read_body else b"",
            received_at=self._wall_time(),
            server_name=self._server_names.get(request.transport),
        )


def _web_response(response: Response) -> web.Response:
    if response.body is None:
        return web.Response(status=response.status, headers=response.headers)
    return web.Response(
        status=response.status,
        body=msgspec.json.encode(response.body),
        content_type="application/json",
        charset="utf-8",
        headers=response.headers,
    )


async def _inject_fault(request: web.BaseRequest, action: CloseMidResponse | Hang) -> NoReturn:
    """Send an incomplete response or none, until the connection ends."""
    match action:
        case CloseMidResponse():
            body = b'{"value": "'
            response = web.StreamResponse()
            response.content_type = "application/json"
            response.content_length = 100 * len(body)
            await response.prepare(request)
            await response.write(body)
            if request.transport is not None:
                request.transport.close()
        case Hang():
            pass
        case _:
            assert_never(action)
    # The handler is cancelled when the client disconnects or the server stops.
    never: asyncio.Future[NoReturn] = asyncio.get_running_loop().create_future()
    await never


def _request_record(request: web.BaseRequest, response: Response, *, at: float) -> RequestRecord:
    return RequestRecord(
        at=at,
        method=request.method,
        host=host_without_port(request.host),
        path=request.path,
        kind=request_kind(request.path),
        status=response.status,
        principal=response.principal,
        note=response.note,
    )
