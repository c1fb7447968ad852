"""keyferry.providers.azure.auth.token_cache: only equal identities share a token."""

from __future__ import annotations

import asyncio
from itertools import combinations
from typing import TYPE_CHECKING, cast

import pytest

from keyferry.net.http_client import HttpsClient, HttpsSettings
from keyferry.providers.azure.auth.access_token import AccessToken
from keyferry.providers.azure.auth.challenge import TokenTarget
from keyferry.providers.azure.auth.identity import (
    ArcIdentity,
    CertificatePrincipal,
    Identity,
    IdentityBinding,
    PodIdentity,
    ServiceAccountToken,
    ServicePrincipal,
    VmManagedIdentity,
    WorkloadIdentity,
)
from keyferry.providers.azure.auth.token_cache import AccessTokenRequest, TokenCache
from keyferry.providers.azure.clouds import CLOUDS
from keyferry.resilience.call_context import CallContext, Caller
from tests.fakes.resilience import uncached_fetcher

if TYPE_CHECKING:
    from keyferry.resilience.transport import RetryingTransport

ISSUER = "https://issuer.test"


def pod(subject: str, text: str = "a.b.c", client: str = "x", issuer: str = ISSUER) -> Identity:
    """The workload identity of a pod."""
    return WorkloadIdentity(client, ServiceAccountToken(text, issuer, subject))


SUBJECT = "system:serviceaccount:ns:a"
LOGINS = [
    AccessTokenRequest(CertificatePrincipal("x", b"one"), "t", CLOUDS[0]),
    AccessTokenRequest(CertificatePrincipal("x", b"two"), "t", CLOUDS[0]),
    AccessTokenRequest(CertificatePrincipal("x", b"one", "password"), "t", CLOUDS[0]),
    AccessTokenRequest(VmManagedIdentity("", object_id="x"), "t", CLOUDS[0]),
    AccessTokenRequest(VmManagedIdentity("", resource_id="x"), "t", CLOUDS[0]),
    AccessTokenRequest(ArcIdentity(), "t", CLOUDS[0]),
    AccessTokenRequest(PodIdentity("ns", "a"), "t", CLOUDS[0]),
    AccessTokenRequest(PodIdentity("ns", "b"), "t", CLOUDS[0]),
    AccessTokenRequest(PodIdentity("ns", "a", "uid-2"), "t", CLOUDS[0]),
    AccessTokenRequest(PodIdentity("other", "a"), "t", CLOUDS[0]),
    AccessTokenRequest(
        IdentityBinding("x", ServiceAccountToken("a", ISSUER, SUBJECT)), "t", CLOUDS[0]
    ),
    AccessTokenRequest(
        ServicePrincipal("x", "one"), "t", CLOUDS[0], "https://managedhsm.azure.net"
    ),
    AccessTokenRequest(ServicePrincipal("x", "one"), "t", CLOUDS[0]),
    AccessTokenRequest(ServicePrincipal("x", "two"), "t", CLOUDS[0]),
    AccessTokenRequest(ServicePrincipal("y", "one"), "t", CLOUDS[0]),
    AccessTokenRequest(ServicePrincipal("x", "one"), "u", CLOUDS[0]),
    AccessTokenRequest(ServicePrincipal("x", "one"), "t", CLOUDS[1]),
    AccessTokenRequest(ServicePrincipal("x", "one"), "t", CLOUDS[1], CLOUDS[0].vault_resource),
    AccessTokenRequest(VmManagedIdentity("x"), "t", CLOUDS[0]),
    AccessTokenRequest(VmManagedIdentity(""), "t", CLOUDS[0]),
    AccessTokenRequest(pod("system:serviceaccount:ns:a"), "t", CLOUDS[0]),
    AccessTokenRequest(pod("system:serviceaccount:ns:b"), "t", CLOUDS[0]),
    AccessTokenRequest(pod("system:serviceaccount:ns:a", client="y"), "t", CLOUDS[0]),
    AccessTokenRequest(
        pod("system:serviceaccount:ns:a", issuer="https://other.test"), "t", CLOUDS[0]
    ),
    AccessTokenRequest(pod("", "unreadable-1", issuer=""), "t", CLOUDS[0]),
    AccessTokenRequest(pod("", "unreadable-2", issuer=""), "t", CLOUDS[0]),
]


@pytest.mark.parametrize(("first", "second"), list(combinations(LOGINS, 2)))
def test_different_identities_never_share_a_token(
    first: AccessTokenRequest, second: AccessTokenRequest
) -> None:
    """Everything that could change the response is part of the key."""
    assert first.identity_parts != second.identity_parts


def test_pods_of_one_service_account_share_a_token() -> None:
    """Their tokens differ, but grant the same."""
    first = AccessTokenRequest(pod("system:serviceaccount:ns:a", "one.pod.token"), "t", CLOUDS[0])
    second = AccessTokenRequest(
        pod("system:serviceaccount:ns:a", "other.pod.token"), "t", CLOUDS[0]
    )
    assert first.identity_parts == second.identity_parts


async def test_cache_keys_are_keyed_digests() -> None:
    """Equal for one identity, different in each process: secrets cannot be guessed against them."""
    client = HttpsClient(HttpsSettings())
    cache, other_cache = (TokenCache(client, uncached_fetcher().transport) for _ in range(2))
    for login in LOGINS:
        identity, target = cache.identity_key(login), TokenTarget("u", "https://vault.test")
        assert cache.cached_token(identity) is cache.cached_token(identity)
        cache.remember_redirect(identity, "vault.test", target)
        assert cache.redirect(identity, "vault.test") == target
        assert cache.identity_key(login) != other_cache.identity_key(login)
    assert len({cache.identity_key(login) for login in LOGINS}) == len(LOGINS)
    keys = {cache.identity_key(login) for login in LOGINS}
    for login in LOGINS:
        assert all(set(key.digest).isdisjoint(login.identity_parts) for key in keys)
    await client.close()


class _StuckForEvil:
    """Implements `RetryingTransport`; requests of one namespace wait forever."""

    async def send(self, attempt: object, context: CallContext) -> AccessToken:
        if context.caller.tenant == "evil":
            await asyncio.Event().wait()
        return AccessToken("token", 4_000_000_000.0)


async def test_namespace_does_not_wait_for_the_token_request_of_another_one() -> None:
    """They may share an identity, such as that of the machine."""
    transport = cast("RetryingTransport", _StuckForEvil())
    cache = TokenCache(HttpsClient(HttpsSettings()), transport)
    request = AccessTokenRequest(VmManagedIdentity("", object_id="x"), "t", CLOUDS[0])
    evil, shop = (
        cache.token_provider(request, caller=Caller(namespace)) for namespace in ("evil", "shop")
    )
    stuck = asyncio.create_task(evil.get_token())
    await asyncio.sleep(0)
    assert "token" == await shop.get_token()
    assert not stuck.done()
    assert "token" == await evil.get_token()
    stuck.cancel()
    await cache.close()
