"""Requests service-account tokens for pods if kubelet did not send one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote

from keyferry.errors import IdentityError
from keyferry.formats.go_json import NotJsonError, read_json, write_json
from keyferry.kubernetes.rejection import RejectionKind, rejection_of
from keyferry.providers.vault.http.client import VaultRequest

if TYPE_CHECKING:
    from keyferry.providers.vault.auth.login import PodInfo
    from keyferry.providers.vault.http.kubernetes_api import KubernetesApi
    from keyferry.providers.vault.product import Product


class TokenRequester(Protocol):
    """Obtains service-account tokens that are bound to pods."""

    async def request_token(self, pod: PodInfo, audience: str) -> str:
        """Return a token for the service account of `pod`.

        Args:
            pod: pod that the token is bound to.
            audience: audience of the token; "" for the API server's default.

        Raises:
            IdentityError: no token can be obtained.
        """


class DisabledTokenRequester:
    """Implements `TokenRequester` for a process that may not request tokens: always raises.

    Args:
        product: product whose default audience the error names.
    """

    def __init__(self, product: Product) -> None:
        self._product = product

    async def request_token(self, pod: PodInfo, audience: str) -> str:
        """Raise an `IdentityError` that explains how to let kubelet send the token."""
        audience = audience or self._product.audience
        error = IdentityError(
            f"kubelet sent no service-account token for the audience '{audience}'",
            f"Add the audience to spec.tokenRequests of the CSIDriver object (chart: "
            f"tokenRequests: [{{audience: {audience}}}]), or set audience in the "
            "SecretProviderClass to one that is listed there. For keyferry mount, pass the token "
            "with --service-account-tokens.",
        )
        error.lacks_token = True
        raise error


# --- Tokens from the TokenRequest API of Kubernetes -----------------------------------------------

TOKEN_TTL_SECONDS = 900
"""Lifetime of requested tokens."""


class ApiTokenRequester:
    """Implements `TokenRequester` with Kubernetes' TokenRequest API.

    Args:
        api: the Kubernetes API.
    """

    def __init__(self, api: KubernetesApi) -> None:
        self._api = api

    async def request_token(self, pod: PodInfo, audience: str) -> str:
        """Return a token for the service account of `pod`; see `TokenRequester`."""
        if not (pod.namespace and pod.service_account and pod.name and pod.uid):
            raise IdentityError(
                "failed to request a service-account token: kubelet did not send the pod's name "
                "and service account",
                "Set podInfoOnMount: true in the CSIDriver object.",
            )
        account = f"service account {pod.namespace}/{pod.service_account}"
        action = f"request a token of {account} for pod {pod.name}"
        path = (
            f"/api/v1/namespaces/{quote(pod.namespace, safe='')}"
            f"/serviceaccounts/{quote(pod.service_account, safe='')}/token"
        )
        request = VaultRequest(path, action, "POST", _token_request(pod, audience))
        response = await self._api.send(request, pod.caller)
        if not response.ok:
            raise _token_request_error(response.status, response.body, action, pod)
        return _parse_token_request(response.body, action)


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


def _token_request_error(status: int, body: bytes, action: str, pod: PodInfo) -> IdentityError:
    problem = f"failed to {action}: the Kubernetes API rejected the request ({status})"
    rejection = rejection_of(body)
    if rejection is not None and rejection.kind is not RejectionKind.PERMISSION:
        return IdentityError(f"{problem}: {rejection.problem}", rejection.remedy(pod.namespace))
    match status:
        case 401 | 403:
            remedy = (
                "Permit Keyferry to create serviceaccounts/token (chart: createPodTokens: true). "
                "Preferably add the audience to tokenRequests of the chart, so that kubelet sends "
                "the token."
            )
        case 404 | 409 | 422:
            remedy = f"Check that pod {pod.namespace}/{pod.name} and its service account exist."
        case _:
            remedy = "See the log of the Kubernetes API server."
    return IdentityError(problem, remedy)


def _parse_token_request(body: bytes, action: str) -> str:
    try:
        document = read_json(body)
    except NotJsonError:
        document = None
    status = document.get("status") if isinstance(document, dict) else None
    token = status.get("token") if isinstance(status, dict) else None
    if type(token) is not str or not token:
        raise IdentityError(
            f"failed to {action}: the response contains no token",
            "Check that the configured address is that of a Kubernetes API server.",
        )
    return token
