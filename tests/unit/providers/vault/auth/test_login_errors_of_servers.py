"""The words of a real server at a login, and the remedy that they are given."""

from __future__ import annotations

import pytest

from keyferry.providers.vault.auth.login import JwtLogin, Login, PodInfo
from keyferry.providers.vault.auth.login_errors import login_error
from keyferry.providers.vault.http.server import Address, Server

LOGIN = Login(
    Server(Address("https://vault.example.com"), namespace="team"),
    "jwt",
    JwtLogin("shop", "vault"),
    PodInfo("shop", "web-0", "uid", "web"),
)


@pytest.mark.parametrize(
    ("status", "words", "remedy"),
    [
        (400, 'role "shop" could not be found', "vault list auth/jwt/role"),
        (
            400,
            "error validating token: invalid subject (sub) claim",
            "bound_subject=system:serviceaccount:shop:web",
        ),
        (
            400,
            "error validating token: invalid audience (aud) claim: audience claim does not match",
            "Set it to the audience",
        ),
        (
            400,
            "error validating token: error verifying token signature: no known key",
            "issuer and keys of this cluster",
        ),
        (
            404,
            "namespace not found",
            "Correct vaultNamespace 'team'. List the namespaces: vault namespace list.",
        ),
        (403, "service account name not authorized", "bound_service_account_names=web"),
        (403, "namespace not authorized", "bound_service_account_namespaces=shop"),
    ],
)
def test_a_refusal_has_the_remedy_for_its_words(status: int, words: str, remedy: str) -> None:
    """And passes the words on, because people search for them."""
    error = login_error(status, (words,), LOGIN)
    assert words in error.problem
    assert remedy in error.remedy
