"""keyferry.kubernetes.api.syncs.tokens: tokens of service accounts, and why none is issued."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from keyferry.errors import IdentityError
from keyferry.kubernetes.api.client import KubeApi
from keyferry.kubernetes.api.syncs.tokens import IssuedToken, TokenRequest, request_token
from keyferry.kubernetes.syncs.sync_errors import TokenRequestError
from tests.fakes.kube_api import KubeApiServer
from tests.fakes.kube_objects import StatusError

ACTION = "create serviceaccounts/token"
REQUEST = TokenRequest("shop", "web", "vault")


def policy_denial(policy: str) -> StatusError:
    return StatusError(
        403,
        "Forbidden",
        f"serviceaccounts \"web\" is forbidden: ValidatingAdmissionPolicy '{policy}' with binding"
        f" '{policy}' denied request: canary of the policy",
    )


async def failure(api: KubeApi, request: TokenRequest = REQUEST) -> TokenRequestError:
    with pytest.raises(IdentityError) as caught:
        await request_token(api, request)
    assert "canary" not in f"{caught.value} {caught.value.__cause__}"
    assert isinstance(caught.value, TokenRequestError)
    return caught.value


@pytest.fixture(autouse=True)
def _account(server: KubeApiServer) -> None:
    server.put("serviceaccounts", {"metadata": {"name": "web", "namespace": "shop"}})


async def test_token_is_requested_for_one_audience(server: KubeApiServer, api: KubeApi) -> None:
    """Not bound to a pod: a SecretSync has no pod."""
    issued = await request_token(api, REQUEST)
    expiry = datetime(2030, 1, 1, 12, 10, tzinfo=UTC)
    assert issued == IssuedToken("canary-token-1", expiry, 600)
    assert server.token_requests == [{"audiences": ["vault"], "expirationSeconds": 600}]
    assert "canary" not in repr(issued)


async def test_token_can_be_bound_to_a_node(server: KubeApiServer, api: KubeApi) -> None:
    """It is invalid once the node is deleted."""
    await request_token(api, TokenRequest("shop", "web", "", node="node-1"))
    assert server.token_requests == [
        {
            "audiences": [],
            "expirationSeconds": 600,
            "boundObjectRef": {"apiVersion": "v1", "kind": "Node", "name": "node-1"},
        }
    ]


async def test_missing_permission_names_the_value_of_the_chart(
    server: KubeApiServer, api: KubeApi
) -> None:
    """The namespace is not listed."""
    server.forbidden.add(ACTION)
    error = await failure(api)
    assert str(error) == (
        "the Kubernetes API issues no token of service account shop/web: a permission is missing."
        " In the chart: add shop to secretSync.namespaces, or set"
        " secretSync.clusterWide=true."
    )
    assert not error.retryable


async def test_missing_service_account_is_named(api: KubeApi) -> None:
    """It may be created later."""
    error = await failure(api, TokenRequest("shop", "other", "vault"))
    assert str(error) == (
        "service account shop/other does not exist. Create it, or correct spec.serviceAccountName."
    )
    bound = await failure(api, TokenRequest("shop", "other", "vault", node="node-1"))
    assert "shop/other: it or the node node-1 does not exist" in bound.problem


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        (
            "keyferry-sync-tokens",
            (
                "admission policy keyferry-sync-tokens denied it. Add the audience vault to"
                " secretSync.tokenRequests of the chart"
            ),
        ),
        (
            "r-keyferry-sync-token-opt-in",
            (
                "admission policy r-keyferry-sync-token-opt-in denied it. Permit SecretSyncs to use"
                " it: kubectl label --namespace shop serviceaccount web"
                " secret-sync.x-k8s.io/allowed=true"
            ),
        ),
        (
            "company-tokens",
            (
                "admission policy company-tokens denied it. Ask the owner of the policy what it"
                " requires: kubectl describe validatingadmissionpolicy company-tokens."
            ),
        ),
    ],
)
async def test_denial_of_a_policy_names_it(
    server: KubeApiServer, api: KubeApi, policy: str, words: str
) -> None:
    """Those of the chart have remedies of their own."""
    server.refusals[ACTION] = policy_denial(policy)
    error = await failure(api)
    assert f"no token of service account shop/web: {words}" in str(error)
    assert not error.retryable


async def test_namespace_that_is_being_deleted_is_named(
    server: KubeApiServer, api: KubeApi
) -> None:
    """Nothing can be done."""
    server.refusals[ACTION] = StatusError(
        403,
        "Forbidden",
        'serviceaccounts "web" is forbidden: unable to create new content in namespace shop because'
        " it is being terminated",
    )
    assert "namespace shop is being deleted. No action is needed" in str(await failure(api))


@pytest.mark.parametrize("code", [429, 500, 503])
async def test_overload_is_retryable(server: KubeApiServer, api: KubeApi, code: int) -> None:
    """The same request may succeed later."""
    server.refusals[ACTION] = StatusError(code, "Overloaded", "canary")
    error = await failure(api)
    assert error.retryable
    assert "refuses to create serviceaccounts/token shop/web" in error.problem


async def test_unavailable_api_is_retryable(server: KubeApiServer, api: KubeApi) -> None:
    """As an overloaded one."""
    await server.stop()
    assert (await failure(api)).retryable


async def test_invalid_request_is_not_retryable(server: KubeApiServer, api: KubeApi) -> None:
    """For example a lifetime that the server does not permit."""
    server.refusals[ACTION] = StatusError(422, "Invalid", "canary", ("spec.expirationSeconds",))
    error = await failure(api)
    assert not error.retryable
    assert "spec.expirationSeconds FieldValueInvalid" in error.problem


@pytest.mark.parametrize(
    "status",
    [None, {}, {"token": ""}, {"token": "canary", "expirationTimestamp": "soon"}, {"token": 3}],
)
async def test_answer_without_a_token_is_an_error(
    server: KubeApiServer, api: KubeApi, status: object
) -> None:
    """Whatever else it holds is not repeated."""
    server.token_status = status
    assert "contains no token" in (await failure(api)).problem
