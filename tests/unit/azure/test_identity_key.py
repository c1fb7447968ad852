"""keyferry.azure.identity.Login.key: who may share a token, and who never does."""

from __future__ import annotations

from itertools import combinations

import pytest

from keyferry.azure.clouds import CLOUDS
from keyferry.azure.identity import Login
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


def test_the_key_holds_no_secret() -> None:
    """A client secret goes in as its hash."""
    assert "one" not in LOGINS[0].key
