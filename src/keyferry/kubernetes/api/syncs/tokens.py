"""Requests tokens of the service accounts that SecretSyncs name."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from msgspec import Struct

from keyferry.errors import StoreError, StoreUnavailableError, excerpt
from keyferry.formats.fields import Field, FieldTypeError
from keyferry.kubernetes.api.api_errors import (
    ApiNotFoundError,
    ApiPermissionError,
    ApiStatusError,
)
from keyferry.kubernetes.api.syncs.permissions import sync_rbac_remedy
from keyferry.kubernetes.api.syncs.resources import TokenRequestResource
from keyferry.kubernetes.rejection import OwnPolicy
from keyferry.kubernetes.syncs.objects import OPT_IN_LABEL
from keyferry.kubernetes.syncs.sync_errors import TokenRequestError

if TYPE_CHECKING:
    from keyferry.kubernetes.api.client import KubeApi
    from keyferry.kubernetes.object_codec import Manifest

TOKEN_SECONDS = 600
"""Lifetime of a token: the shortest that Kubernetes issues, and the only one that the admission
policies of the chart and of upstream permit."""


class TokenRequest(Struct, frozen=True):
    """A request for a token of a service account.

    Attributes:
        audience: of the token; "" for the default of the API server.
        seconds: lifetime.
        node: name of the node that the token is bound to; None for no node. It is invalid once the
            node is deleted.
    """

    namespace: str
    service_account: str
    audience: str
    seconds: int = TOKEN_SECONDS
    node: str | None = None


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A token of a service account.

    Attributes:
        expires_at: by the clock of the API server.
        seconds: its lifetime. From the request on, it is independent of the clocks of both sides.
    """

    token: str = field(repr=False)
    expires_at: datetime
    seconds: int


async def request_token(api: KubeApi, request: TokenRequest) -> IssuedToken:
    """Request a token.

    Raises:
        TokenRequestError: the Kubernetes API issues no token. The error contains no text of it.
    """
    namespace, account = request.namespace, request.service_account
    try:
        answer = await api.create_subresource(
            TokenRequestResource, namespace, account, _manifest(request)
        )
    except StoreError as error:
        raise _token_error(error, request) from None
    return _parse(answer, request)


def _manifest(request: TokenRequest) -> Manifest:
    bound: Manifest = {}
    if request.node is not None:
        bound = {"boundObjectRef": {"apiVersion": "v1", "kind": "Node", "name": request.node}}
    return {
        "spec": {
            "audiences": [request.audience] if request.audience else [],
            "expirationSeconds": request.seconds,
            **bound,
        }
    }


def _parse(answer: Manifest, request: TokenRequest) -> IssuedToken:
    root = Field(answer)
    try:
        token = root["status"]["token"].text()
        seconds = root["spec"]["expirationSeconds"].number() or request.seconds
        expires_at = datetime.fromisoformat(root["status"]["expirationTimestamp"].text())
        if not token or expires_at.tzinfo is None:
            raise ValueError
    except (FieldTypeError, ValueError):
        # Not chained: the answer holds the token.
        raise TokenRequestError(
            f"the answer to the request for a token of {_account(request)} contains no token",
            "Check that the address of the Kubernetes API is that of an API server.",
        ) from None
    return IssuedToken(token, expires_at, seconds)


def _account(request: TokenRequest) -> str:
    return f"service account {request.namespace}/{request.service_account}"


def _token_error(error: StoreError, request: TokenRequest) -> TokenRequestError:
    """Return the error of a request that failed with `error`."""
    problem = f"the Kubernetes API issues no token of {_account(request)}"
    match error:
        case StoreUnavailableError():
            return TokenRequestError(error.problem, error.remedy, retryable=True)
        case ApiPermissionError():
            remedy = sync_rbac_remedy("create", "serviceaccounts/token", request.namespace)
            return TokenRequestError(f"{problem}: a permission is missing", remedy)
        case ApiNotFoundError() if request.node is not None:
            return TokenRequestError(
                f"{problem}: it or the node {request.node} does not exist",
                "Create the service account, or correct spec.serviceAccountName. Otherwise check"
                " --node-name.",
            )
        case ApiNotFoundError():
            return TokenRequestError(
                f"{_account(request)} does not exist",
                "Create it, or correct spec.serviceAccountName.",
            )
        case ApiStatusError(rejection=rejection) if rejection is not None:
            remedy = _policy_remedy(rejection.own_policy, request)
            return TokenRequestError(
                f"{problem}: {rejection.problem}", remedy or rejection.remedy(request.namespace)
            )
        case _:
            return TokenRequestError(error.problem, error.remedy)


def _policy_remedy(policy: OwnPolicy | None, request: TokenRequest) -> str:
    """Return what to do about the denial of a policy of the chart; "" for others."""
    match policy:
        case OwnPolicy.TOKENS:
            audience = excerpt(request.audience) or "the default of the API server"
            return (
                f"Add the audience {audience} to secretSync.tokenRequests of the chart, and check"
                " that --token-binding is its secretSync.tokenBinding."
            )
        case OwnPolicy.TOKEN_OPT_IN:
            return (
                f"Permit SecretSyncs to use it: kubectl label --namespace {request.namespace}"
                f" serviceaccount {request.service_account} {OPT_IN_LABEL}=true"
            )
        case _:
            return ""
