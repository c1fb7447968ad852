"""Asks a vault as one identity: with one new login where a token that was kept is refused.

Source: vault, section 1.6.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import quote

from keyferry.errors import KeyferryError, VaultError
from keyferry.go_json import JsonNumber, NotJsonError, read_json
from keyferry.logs import get_logger
from keyferry.vault.answer import Answer, BadAnswerError, read_answer
from keyferry.vault.http import VaultReply, VaultRequest
from keyferry.vault.read_refusals import Engine, read_error
from keyferry.vault.unavailable import quotable

if TYPE_CHECKING:
    from keyferry.economy.errand import Errand
    from keyferry.vault.api_path import ApiPath
    from keyferry.vault.grant import Grant
    from keyferry.vault.objects import ReadRequest
    from keyferry.vault.session import Vaults
    from keyferry.vault.sessions import OpenSession

_log = get_logger("vault")


class VaultClient:
    """One vault as one identity sees it.

    Args:
        vaults: the way to it.
        session: as whom.
        errand: takes its requests.

    Attributes:
        session: the same.
    """

    def __init__(self, vaults: Vaults, session: OpenSession, errand: Errand) -> None:
        self._vaults = vaults
        self.session = session
        self._errand = errand
        self._server = session.login.server

    async def read(self, request: ReadRequest) -> tuple[Answer, Grant]:
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
            repeatable=request.shareable,
        )
        reply, grant = await self._send(sent)
        if not reply.good:
            raise await self._refusal(request, grant, reply)
        try:
            answer = read_answer(reply.body)
        except BadAnswerError as error:
            raise VaultError(
                f"the answer of {self._server} at {request} cannot be used: {error}",
                f"Check that {self._server.host} is a vault and that no proxy answers.",
            ) from None
        for warning in quotable(answer.warnings or (), secrets=(grant.token,)):
            _log.warning("the vault warns", vault=self._server.host, warning=warning)
        return answer, grant

    async def list_folder(self, path: ApiPath) -> Answer | None:
        """What a list says; None where this identity gets none, or it is no answer of a vault.

        Raises:
            KeyferryError: the vault cannot be asked now.
        """
        sent = VaultRequest(path.encoded, f"list {path} of {self._server}")
        reply, _ = await self._send(sent)
        try:
            return read_answer(reply.body) if reply.good else None
        except BadAnswerError:
            return None

    async def _send(self, request: VaultRequest) -> tuple[VaultReply, Grant]:
        """The reply, and the token that it came to; a refusal is none of an old token's."""
        grant = await self.session.grant(self._errand.purpose)
        reply = await self._send_with(grant, request)
        if reply.status == 403 and self.session.may_be_stale(grant):
            self.session.session.forget(grant)
            grant = await self.session.grant(self._errand.purpose)
            reply = await self._send_with(grant, request)
        return reply, grant

    async def _send_with(self, grant: Grant, request: VaultRequest) -> VaultReply:
        sent = replace(request, token=grant.token)
        return await self._vaults.send(self._server, sent, self._errand)

    async def _refusal(self, request: ReadRequest, grant: Grant, reply: VaultReply) -> VaultError:
        errors, engine = reply.errors, None
        if reply.status == 404:
            errors += _warnings(reply.body)
        if reply.status in (403, 404):
            engine = await self._find_engine(request, grant)
        login = self.session.login
        return read_error(reply.status, errors, request, login, engine=engine, token=grant.token)

    async def _find_engine(self, request: ReadRequest, grant: Grant) -> Engine | None:
        """What the path leads into; None where the vault does not say."""
        path = f"/v1/sys/internal/ui/mounts/{quote(request.path.path)}"
        question = VaultRequest(path, f"find the engine of {request}", token=grant.token)
        try:
            reply = await self._vaults.send(self._server, question, self._errand)
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
        return Engine(mount.strip("/"), kind, (2 if second else 1) if kind == "kv" else 0)


def _warnings(body: bytes) -> tuple[str, ...]:
    try:
        return read_answer(body).warnings or ()
    except BadAnswerError:
        return ()
