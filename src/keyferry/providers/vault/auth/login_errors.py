"""Translates rejected logins into errors with a cause and a remedy. [pure]

Each message quotes the vault's error, because users search for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from keyferry.errors import IdentityError, excerpt
from keyferry.providers.vault.auth.login import CertLogin, JwtLogin, Login
from keyferry.providers.vault.http.http_errors import safe_to_quote

if TYPE_CHECKING:
    from collections.abc import Callable


class _KnownRefusal(Struct, frozen=True):
    """A known reason for a rejected login.

    Attributes:
        words: lower-case phrases that must all occur in the vault's error.
        cause: what is wrong.
        remedy: returns what to do about it.
    """

    words: tuple[str, ...]
    cause: str
    remedy: Callable[[Login], str]


def login_error(
    status: int, errors: tuple[str, ...], login: Login, *, secrets: tuple[str, ...] = ()
) -> IdentityError:
    """Return the error for a rejected login.

    Args:
        status: HTTP status of the response.
        errors: errors in the response.
        login: the login that was rejected.
        secrets: secrets of the request, which are never quoted.
    """
    quotes = safe_to_quote(errors, secrets=secrets)
    vault_text = f": {'; '.join(quotes)}" if quotes else ""
    text = " ".join(errors).lower()
    for known in _KNOWN_REFUSALS:
        if all(word in text for word in known.words):
            cause, remedy = known.cause, known.remedy(login)
            break
    else:
        cause, remedy = "the vault gives no known reason", _general_remedy(status, login)
    rejected = f"{login.server} rejected {login.display_name} at auth/{login.auth_mount}"
    return IdentityError(f"failed to login: {rejected}: {cause} ({status}{vault_text})", remedy)


def _role_name(login: Login) -> str:
    method = login.method
    return excerpt(method.role) if isinstance(method, JwtLogin | CertLogin) and method.role else "?"


def _read_role_command(login: Login) -> str:
    return f"{login.server.command} read auth/{login.auth_mount}/role/{_role_name(login)}"


def _write_role_command(login: Login) -> str:
    return f"{login.server.command} write auth/{login.auth_mount}/role/{_role_name(login)}"


def _role_remedy(login: Login) -> str:
    return (
        "Correct the role in the SecretProviderClass, or create it. List the roles: "
        f"{login.server.command} list auth/{login.auth_mount}/role. "
        "A role belongs to one auth method of one namespace."
    )


def _service_account_remedy(login: Login) -> str:
    pod = login.pod
    return (
        f"Permit it in the role: {_write_role_command(login)} "
        f"bound_service_account_names={pod.service_account or 'NAME'} "
        f"bound_service_account_namespaces={pod.namespace or 'NAMESPACE'} (repeat the role's other "
        "fields). Or set serviceAccountName of the pod."
    )


def _subject_remedy(login: Login) -> str:
    return (
        f"Permit it in the role: {_write_role_command(login)} "
        f"bound_subject=system:serviceaccount:{login.pod.namespace or 'NAMESPACE'}:"
        f"{login.pod.service_account or 'NAME'} (repeat the role's other fields). Or set "
        "serviceAccountName of the pod."
    )


def _namespace_remedy(login: Login) -> str:
    return (
        f"Correct vaultNamespace '{excerpt(login.server.namespace)}'. List the namespaces: "
        f"{login.server.command} namespace list."
    )


def _audience_remedy(login: Login) -> str:
    audience = login.method.audience if isinstance(login.method, JwtLogin) else ""
    current = (
        f"The SecretProviderClass sets audience to '{excerpt(audience)}'"
        if audience
        else "The SecretProviderClass does not set audience, so the default is used"
    )
    return (
        f"{current}. Set it to the audience that the role requires (fields audience or "
        f"bound_audiences): {_read_role_command(login)}. Add the same audience to "
        "spec.tokenRequests of the CSIDriver object."
    )


def _claims_remedy(login: Login) -> str:
    return (
        "Compare the claims of the pod's token with bound_claims of the role: "
        f"{_read_role_command(login)}."
    )


def _signature_remedy(login: Login) -> str:
    return (
        "Configure the auth method with the issuer and keys of this cluster: compare "
        f"{login.server.command} read auth/{login.auth_mount}/config with "
        "kubectl get --raw /.well-known/openid-configuration."
    )


def _reviewer_remedy(login: Login) -> str:
    return (
        "The cluster's API server does not let the vault review the token. Grant the vault's token "
        "reviewer the ClusterRole system:auth-delegator, and check kubernetes_host and "
        f"kubernetes_ca_cert: {login.server.command} read auth/{login.auth_mount}/config."
    )


def _approle_remedy(login: Login) -> str:
    return (
        "The secret ID may have expired or reached its number of uses. Create a new one and store "
        f"it in the pod's Secret: {login.server.command} write -f "
        f"auth/{login.auth_mount}/role/ROLE/secret-id."
    )


def _certificate_remedy(login: Login) -> str:
    return (
        "Use a valid certificate that is signed by a CA of the role and has one of its names: "
        f"{login.server.command} read auth/{login.auth_mount}/certs/{_role_name(login)}. "
        "The vault's listener must request client certificates."
    )


def _general_remedy(status: int, login: Login) -> str:
    if status == 404:
        return (
            f"Set vaultAuthMountPath and vaultNamespace to an existing auth method: "
            f"{login.server.command} auth list. An auth method belongs to one namespace "
            f"(here: {login.server.namespace or 'the root namespace'})."
        )
    if login.server.address.base.endswith("/v1"):
        return "Remove /v1 from the end of the vault's address: Keyferry adds it."
    check_mount = (
        f"Check that auth/{login.auth_mount} exists in this namespace "
        f"({login.server.command} auth list)"
    )
    if not isinstance(login.method, JwtLogin):
        return f"{check_mount} and is of the type that vaultAuthMethod names."
    return (
        f"{check_mount}, that the role exists ({_read_role_command(login)}), and that the vault "
        "can verify the tokens of this cluster."
    )


_KNOWN_REFUSALS: tuple[_KnownRefusal, ...] = (
    _KnownRefusal(("invalid role name",), "the role does not exist", _role_remedy),
    _KnownRefusal(("role", "could not be found"), "the role does not exist", _role_remedy),
    _KnownRefusal(
        ("service account name not authorized",),
        "the role does not permit this service account",
        _service_account_remedy,
    ),
    _KnownRefusal(
        ("namespace not authorized",),
        "the role does not permit this Kubernetes namespace",
        _service_account_remedy,
    ),
    _KnownRefusal(("aud", "claim"), "the token has another audience", _audience_remedy),
    _KnownRefusal(("audience",), "the token has another audience", _audience_remedy),
    _KnownRefusal(
        ("subject", "claim"), "the role does not permit this service account", _subject_remedy
    ),
    _KnownRefusal(("bound claim",), "a claim of the token does not match the role", _claims_remedy),
    _KnownRefusal(
        ("issuer", "claim"), "the token was issued by another cluster", _signature_remedy
    ),
    _KnownRefusal(("signature",), "the vault cannot verify the token", _signature_remedy),
    _KnownRefusal(
        ("lookup failed", "unauthorized"), "the cluster rejected the token", _reviewer_remedy
    ),
    _KnownRefusal(
        ("service account unauthorized",), "the cluster rejected the token", _reviewer_remedy
    ),
    _KnownRefusal(("tokenreview",), "the vault cannot review the token", _reviewer_remedy),
    _KnownRefusal(("token is expired",), "the token has expired", _signature_remedy),
    _KnownRefusal(("secret id",), "the secret ID or the role ID is invalid", _approle_remedy),
    _KnownRefusal(("secret_id",), "the secret ID or the role ID is invalid", _approle_remedy),
    _KnownRefusal(("role_id",), "the secret ID or the role ID is invalid", _approle_remedy),
    _KnownRefusal(("role id",), "the secret ID or the role ID is invalid", _approle_remedy),
    _KnownRefusal(("certificate",), "the certificate was rejected", _certificate_remedy),
    _KnownRefusal(("namespace not found",), "the namespace does not exist", _namespace_remedy),
    _KnownRefusal(
        ("no handler for route",),
        "the auth method does not exist",
        lambda login: _general_remedy(404, login),
    ),
)
"""In order of precedence: the first match is used."""
