"""The way of one request, from the web server to the station that answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn, assert_never

import msgspec
from aiohttp import web

from keyferry.devvault.access_tokens import AccessTokens
from keyferry.devvault.arc import ARC_HOST, Arc
from keyferry.devvault.clouds import (
    LoginStation,
    ProxyStation,
    UnknownStation,
    VaultStation,
    bare_host,
    station_of,
)
from keyferry.devvault.entra import Entra
from keyferry.devvault.exchange import Answer, Call, Refused, path_kind, vault_error
from keyferry.devvault.imds import Imds
from keyferry.devvault.journal import NO_STATUS, Journal, RequestRecord
from keyferry.devvault.model import CloseHalfWay, Hang, RespondStatus
from keyferry.devvault.nmi import NMI_HOST, Nmi
from keyferry.devvault.objects import VaultObjects
from keyferry.devvault.secrets import Secrets
from keyferry.devvault.server_names import ServerNames
from keyferry.devvault.throttle import Throttle
from keyferry.devvault.vault import Vault
from keyferry.errors import KeyferryError

if TYPE_CHECKING:
    from keyferry.devvault.data import DevVaultData

STATUS_PATH = "/devvault/requests"
"""On the plain port: what was asked so far, for `keyferry devvault status`."""

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Gateway:
    """Takes requests of both ports: the faults first, then the station that the host name means."""

    def __init__(
        self,
        data: DevVaultData,
        journal: Journal,
        clock: Callable[[], float],
        server_names: ServerNames | None = None,
    ) -> None:
        """`clock` tells the seconds since 1970, `server_names` what TLS clients asked for."""
        self._server_names = server_names or ServerNames()
        tokens = AccessTokens(data.keys)
        secrets = Secrets(data.secrets)
        keys = VaultObjects(data.vault_keys, data.certificates)
        certificates = VaultObjects(data.certificates.certificates, data.certificates)
        self._behaviour = data.behaviour
        self._journal = journal
        self._clock = clock
        self._throttle = Throttle()
        self._entra = Entra(data, tokens)
        self._imds = Imds(data, tokens)
        self._nmi = Nmi(data, tokens)
        self._arc = Arc(self._imds, data.folder / "arc")
        self._vault = Vault(
            data,
            tokens,
            {
                "secrets": secrets.answer,
                "deletedsecrets": secrets.answer,
                "keys": keys.answer,
                "deletedkeys": keys.answer,
                "certificates": certificates.answer,
                "deletedcertificates": certificates.answer,
            },
        )

    async def serve_https(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer on the TLS port: the vaults, the login hosts, the token proxy of AKS."""
        return await self._serve(request, self._cloud_answer)

    async def serve_http(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer on the plain port: IMDS, the Azure Arc agent, NMI."""
        return await self._serve(request, self._plain_answer)

    async def _serve(
        self, request: web.BaseRequest, answer_of: Callable[[Call], Awaitable[Answer]]
    ) -> web.StreamResponse:
        """Handle one request and record it, however it ends."""
        self._journal.begin()
        answer = Answer(NO_STATUS)
        try:
            action = self._behaviour.take_fault(bare_host(request.host), request.path)
            if action is not None and not isinstance(action, RespondStatus):
                await _misbehave(request, action)
            elif action is not None:
                answer = _failing(action)
            else:
                try:
                    answer = await answer_of(await self._read(request))
                except Refused as refusal:
                    answer = refusal.answer
                except KeyferryError as error:
                    refusal_body = vault_error(500, "InternalServerError", "See the log.").body
                    answer = Answer(500, refusal_body, note=str(error))
            return _response(answer)
        finally:
            self._journal.end(_record(request, answer))

    async def _cloud_answer(self, call: Call) -> Answer:
        station = station_of(call.host)
        match station:
            case VaultStation():
                return await self._vault_answer(call, station)
            case LoginStation():
                return self._entra.answer(call, station)
            case ProxyStation():
                return self._entra.bound_answer(call, station)
            case UnknownStation(host):
                message = (
                    f"The development vault does not play the host '{host}'. Ask for a host of the"
                    " cloud and redirect the connection, for example with curl --connect-to."
                )
                raise Refused(vault_error(404, "HostNotFound", message))
            case _:
                assert_never(station)

    async def _vault_answer(self, call: Call, station: VaultStation) -> Answer:
        tuning = self._behaviour.tuning()
        if tuning.latency:
            await asyncio.sleep(tuning.latency)
        if not self._throttle.admits(station.vault, limit=tuning.throttle, now=self._clock()):
            refusal = vault_error(
                429,
                "Throttled",
                "Request was not processed because too many requests were received."
                " Reason: VaultRequestTypeLimitReached",
            )
            return replace(
                refusal,
                headers={"Retry-After": str(tuning.retry_after)},
                note="lift it: keyferry devvault tune --throttle off",
            )
        return self._vault.answer(call, station)

    async def _plain_answer(self, call: Call) -> Answer:
        if call.path == STATUS_PATH:
            rows = self._journal.counts.items()
            return Answer(200, {f"{method} {kind}": count for (method, kind), count in rows})
        if call.host == NMI_HOST:
            return self._nmi.answer(call)
        if call.host == ARC_HOST:
            return self._arc.answer(call)
        return self._imds.answer(call)

    async def _read(self, request: web.BaseRequest) -> Call:
        return Call(
            method=request.method,
            host=request.host,
            path=request.path,
            query=dict(request.query),
            headers={name.lower(): value for name, value in request.headers.items()},
            body=await request.read() if request.can_read_body else b"",
            now=self._clock(),
            server_name=self._server_names.of(request.transport),
        )


def _response(answer: Answer) -> web.Response:
    if answer.body is None:
        return web.Response(status=answer.status, headers=answer.headers)
    return web.Response(
        status=answer.status,
        body=msgspec.json.encode(answer.body),
        content_type="application/json",
        charset="utf-8",
        headers=answer.headers,
    )


def _failing(action: RespondStatus) -> Answer:
    headers = {} if action.retry_after is None else {"Retry-After": str(action.retry_after)}
    refusal = vault_error(action.status, "FaultInjected", "The development vault was told to fail.")
    return replace(refusal, headers=headers, note="a fault that was asked for")


async def _misbehave(request: web.BaseRequest, action: CloseHalfWay | Hang) -> NoReturn:
    """Never give a whole answer; ends when the connection does."""
    match action:
        case CloseHalfWay():
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
    # The handler is cancelled when the client is gone or the server stops.
    never: asyncio.Future[NoReturn] = asyncio.get_running_loop().create_future()
    await never


def _record(request: web.BaseRequest, answer: Answer) -> RequestRecord:
    return RequestRecord(
        method=request.method,
        host=bare_host(request.host),
        path=request.path,
        kind=path_kind(request.path),
        status=answer.status,
        principal=answer.principal,
        note=answer.note,
    )
