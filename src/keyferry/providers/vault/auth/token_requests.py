"""Service-account tokens made by the Kubernetes API, bound to the pod that they are for.

Source: vault, section 1.6. Needs the right to create `serviceaccounts/token`, which is the right to
become any service account; so it is used only where it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from keyferry.errors import IdentityError
from keyferry.formats.go_json import NotJsonError, read_json, write_json
from keyferry.providers.vault.http.client import VaultRequest

if TYPE_CHECKING:
    from keyferry.providers.vault.auth.login import PodInfo
    from keyferry.providers.vault.http.kubernetes_api import KubernetesApi

TOKEN_TTL_SECONDS = 900


class ApiTokenRequester:
    """Makes tokens.

    Args:
        api: the Kubernetes API.
    """

    def __init__(self, api: KubernetesApi) -> None:
        self._api = api

    async def request_token(self, pod: PodInfo, audience: str) -> str:
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
        reply = await self._api.send(VaultRequest(path, why, "POST", _token_request(pod, audience)))
        if not reply.ok:
            raise _token_request_error(reply.status, why, pod)
        return _parse_token_request(reply.body, why)


def _token_request(pod: PodInfo, audience: str) -> bytes:
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
                "expirationSeconds": TOKEN_TTL_SECONDS,
            },
        }
    )


def _token_request_error(status: int, action: str, pod: PodInfo) -> IdentityError:
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
    return IdentityError(f"failed to {action}: the Kubernetes API refuses ({status})", remedy)


def _parse_token_request(body: bytes, action: str) -> str:
    try:
        document = read_json(body)
    except NotJsonError:
        document = None
    status = document.get("status") if isinstance(document, dict) else None
    token = status.get("token") if isinstance(status, dict) else None
    if type(token) is not str or not token:
        raise IdentityError(
            f"failed to {action}: the answer holds no token",
            "Check that the address of the Kubernetes API leads to one.",
        )
    return token
