"""Service-account tokens made by the Kubernetes API, bound to the pod that they are for.

Source: vault, section 1.6. Needs the right to create `serviceaccounts/token`, which is the right to
become any service account; so it is used only where it is asked for.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from keyferry.contract import Purpose
from keyferry.errors import Hop, IdentityError, PlatformError
from keyferry.go_json import NotJsonError, read_json, write_json
from keyferry.vault.http import VaultRequest
from keyferry.vault.server import Server, parse_address
from keyferry.vault.tls_settings import TlsSettings
from keyferry.vault_settings import TlsLayer

if TYPE_CHECKING:
    from keyferry.economy.hub import Economy
    from keyferry.retry import TryFailed
    from keyferry.vault.http import VaultHttp, VaultReply
    from keyferry.vault.login import Pod

TOKEN_SECONDS = 900


class TokenRequests:
    """Makes tokens.

    Args:
        http: the connections.
        economy: decides about turns and tries.
        url: of the Kubernetes API.
        folder: where the service account of this process is: `token` and `ca.crt`.
    """

    def __init__(self, http: VaultHttp, economy: Economy, *, url: str, folder: str) -> None:
        self._http = http
        self._economy = economy
        self._url = url
        self._folder = Path(folder)

    async def make(self, pod: Pod, audience: str) -> str:
        """See `PodTokens.make`."""
        where = f"service account {pod.namespace}/{pod.service_account}"
        if not (pod.namespace and pod.service_account and pod.name and pod.uid):
            raise IdentityError(
                "no token can be made: kubelet does not say which pod and service account it is",
                "The CSIDriver object needs podInfoOnMount: true.",
            )
        why = f"make a token of {where} for pod {pod.name}"
        path = (
            f"/api/v1/namespaces/{quote(pod.namespace, safe='')}"
            f"/serviceaccounts/{quote(pod.service_account, safe='')}/token"
        )
        server = await asyncio.to_thread(self._server)
        request = VaultRequest(path, why, "POST", _body(pod, audience))

        async def attempt(seconds: float) -> VaultReply | TryFailed:
            return await self._http.send(server, request, seconds)

        reply = await self._economy.errand(server.host, Purpose.FIRST).run(attempt)
        if not reply.good:
            raise _refused(reply.status, why, pod)
        return _token(reply.body, why)

    def _server(self) -> Server:
        """The API, with the token of this process, which changes while it runs."""
        try:
            own = (self._folder / "token").read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise PlatformError(
                f"the token of this process cannot be read from {self._folder}/token",
                "Set automountServiceAccountToken of the pod of Keyferry to true.",
                hop=Hop.IDENTITY,
            ) from error
        ca = TlsLayer(ca_file=str(self._folder / "ca.crt"))
        return Server(
            parse_address(self._url),
            tls=TlsSettings(cas=(ca,), machine_cas=False),
            headers=(("Authorization", f"Bearer {own}"), ("Content-Type", "application/json")),
        )


def _body(pod: Pod, audience: str) -> bytes:
    return write_json(
        {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {
                "audiences": [audience] if audience else [],
                "boundObjectRef": {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "name": pod.name,
                    "uid": pod.uid,
                },
                "expirationSeconds": TOKEN_SECONDS,
            },
        }
    )


def _refused(status: int, why: str, pod: Pod) -> IdentityError:
    match status:
        case 401 | 403:
            remedy = (
                "Keyferry needs the right to create serviceaccounts/token (of the chart: "
                "createPodTokens: true); better, add the audience to tokenRequests of the chart, "
                "and kubelet sends the token."
            )
        case 404 | 409 | 422:
            remedy = f"Check that pod {pod.namespace}/{pod.name} and its service account exist."
        case _:
            remedy = "Look at the log of the Kubernetes API."
    return IdentityError(f"failed to {why}: the Kubernetes API refuses ({status})", remedy)


def _token(body: bytes, why: str) -> str:
    try:
        document = read_json(body)
    except NotJsonError:
        document = None
    status = document.get("status") if isinstance(document, dict) else None
    token = status.get("token") if isinstance(status, dict) else None
    if type(token) is not str or not token:
        raise IdentityError(
            f"failed to {why}: the answer holds no token",
            "Check that the address of the Kubernetes API leads to one.",
        )
    return token
