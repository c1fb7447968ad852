"""Login errors: the errors of real servers, and their remedies."""

from __future__ import annotations

import pytest

from keyferry.providers.vault.auth.login import CertLogin, JwtLogin, Login, PodInfo
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
def test_rejected_login_has_a_remedy_and_quotes_the_vault(
    status: int, words: str, remedy: str
) -> None:
    """Users search for the vault's error."""
    error = login_error(status, (words,), LOGIN)
    assert words in error.problem
    assert remedy in error.remedy


@pytest.mark.parametrize("method", [JwtLogin("a\r0", ""), CertLogin("a\r0")])
def test_role_cannot_break_the_line_of_a_message(method: JwtLogin | CertLogin) -> None:
    """The author of a SecretProviderClass writes it."""
    login = Login(LOGIN.server, "jwt", method, PodInfo("sh\nop", "web-0", "uid", "web"))
    assert login.display_name.isprintable()
    assert "role 'a?0'" in login.display_name
