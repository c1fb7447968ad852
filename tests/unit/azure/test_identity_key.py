"""keyferry.azure.identity.Login.key: who may share a token, and who never does."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pytest

from keyferry.azure.challenge import Wanted
from keyferry.azure.clouds import CLOUDS
from keyferry.azure.identity import Credentials, Login
from keyferry.azure.modes import (
    ArcIdentity,
    CertificatePrincipal,
    Identity,
    IdentityBinding,
    PodIdentity,
    ServicePrincipal,
    VmManagedIdentity,
    WorkloadIdentity,
)
from keyferry.azure.service_account import ServiceAccountToken
from keyferry.https import HttpsClient, HttpsSettings
from tests.fakes.economy import forgetful

ISSUER = "https://issuer.test"


def pod(subject: str, text: str = "a.b.c", client: str = "x", issuer: str = ISSUER) -> Identity:
    """The workload identity of a pod."""
    return WorkloadIdentity(client, ServiceAccountToken(text, issuer, subject))


SUBJECT = "system:serviceaccount:ns:a"
LOGINS = [
    Login(CertificatePrincipal("x", b"one"), "t", CLOUDS[0]),
    Login(CertificatePrincipal("x", b"two"), "t", CLOUDS[0]),
    Login(CertificatePrincipal("x", b"one", "password"), "t", CLOUDS[0]),
    Login(VmManagedIdentity("", object_id="x"), "t", CLOUDS[0]),
    Login(VmManagedIdentity("", resource_id="x"), "t", CLOUDS[0]),
    Login(ArcIdentity(), "t", CLOUDS[0]),
    Login(PodIdentity("ns", "a"), "t", CLOUDS[0]),
    Login(PodIdentity("ns", "b"), "t", CLOUDS[0]),
    Login(PodIdentity("ns", "a", "uid-2"), "t", CLOUDS[0]),
    Login(PodIdentity("other", "a"), "t", CLOUDS[0]),
    Login(IdentityBinding("x", ServiceAccountToken("a", ISSUER, SUBJECT)), "t", CLOUDS[0]),
    Login(ServicePrincipal("x", "one"), "t", CLOUDS[0], "https://managedhsm.azure.net"),
    Login(ServicePrincipal("x", "one"), "t", CLOUDS[0]),
    Login(ServicePrincipal("x", "two"), "t", CLOUDS[0]),
    Login(ServicePrincipal("y", "one"), "t", CLOUDS[0]),
    Login(ServicePrincipal("x", "one"), "u", CLOUDS[0]),
    Login(ServicePrincipal("x", "one"), "t", CLOUDS[1]),
    Login(ServicePrincipal("x", "one"), "t", CLOUDS[1], CLOUDS[0].vault_resource),
    Login(VmManagedIdentity("x"), "t", CLOUDS[0]),
    Login(VmManagedIdentity(""), "t", CLOUDS[0]),
    Login(pod("system:serviceaccount:ns:a"), "t", CLOUDS[0]),
    Login(pod("system:serviceaccount:ns:b"), "t", CLOUDS[0]),
    Login(pod("system:serviceaccount:ns:a", client="y"), "t", CLOUDS[0]),
    Login(pod("system:serviceaccount:ns:a", issuer="https://other.test"), "t", CLOUDS[0]),
    Login(pod("", "unreadable-1", issuer=""), "t", CLOUDS[0]),
    Login(pod("", "unreadable-2", issuer=""), "t", CLOUDS[0]),
]


@pytest.mark.parametrize(("first", "second"), list(combinations(LOGINS, 2)))
def test_two_identities_never_share_a_token(first: Login, second: Login) -> None:
    """Whatever could bring another answer is part of the key."""
    assert first.key != second.key


def test_pods_of_one_service_account_share_a_token() -> None:
    """Their tokens differ, what they prove does not."""
    first = Login(pod("system:serviceaccount:ns:a", "one.pod.token"), "t", CLOUDS[0])
    second = Login(pod("system:serviceaccount:ns:a", "other.pod.token"), "t", CLOUDS[0])
    assert first.key == second.key


async def test_what_is_kept_as_a_key_is_a_keyed_digest() -> None:
    """Equal for one identity, another in each process: no secret can be tried against it."""
    client = HttpsClient(HttpsSettings())
    ours, others = (Credentials(client, forgetful()) for _ in range(2))
    for login in LOGINS:
        assert ours.credential(login) is ours.credential(login)
        ours.remember(login, "vault.test", Wanted("u", "https://vault.test"))
        assert ours.followed(login, "vault.test") == replace(
            login, tenant="u", resource="https://vault.test"
        )
        assert ours.whole_identity(login) != others.whole_identity(login)
    assert len({ours.whole_identity(login) for login in LOGINS}) == len(LOGINS)
    kept = {ours.whole_identity(login) for login in LOGINS}
    assert kept == set(ours._credentials)
    assert {(key, "vault.test") for key in kept} == set(ours._followed)
    for login in LOGINS:
        assert all(set(key.proof).isdisjoint(login.key) for key in kept)
    await client.close()
