"""What it means when a vault refuses a login, and what to do about it. [pure]

The vault's own words are part of each message: they are what people search for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from keyferry.errors import IdentityError
from keyferry.excerpt import excerpt
from keyferry.providers.vault.auth.login import CertLogin, JwtLogin, Login
from keyferry.providers.vault.http.http_errors import safe_to_quote

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class _KnownRefusal:
    """A refusal that is known.

    Attributes:
        words: of the vault, in lower case; all of them are in its text.
        meaning: what is wrong, "{}" being the login.
        remedy: makes the advice.
    """

    words: tuple[str, ...]
    meaning: str
    remedy: Callable[[Login], str]


def login_error(
    status: int, errors: tuple[str, ...], login: Login, *, secrets: tuple[str, ...] = ()
) -> IdentityError:
    """The error for an answer that grants no token.

    Args:
        status: of HTTP.
        errors: what the vault says.
        login: what was tried.
        secrets: what was sent and is never repeated.
    """
    quoted = safe_to_quote(errors, secrets=secrets)
    said = f": {'; '.join(quoted)}" if quoted else ""
    text = " ".join(errors).lower()
    for case in _KNOWN_REFUSALS:
        if all(word in text for word in case.words):
            meaning, remedy = case.meaning, case.remedy(login)
            break
    else:
        meaning, remedy = "the login is refused", _general_remedy(status, login)
    where = f"{login.server} refuses {login.display_name} at auth/{login.auth_mount}"
    return IdentityError(f"failed to login: {where}: {meaning} ({status}{said})", remedy)


def _role_name(login: Login) -> str:
    method = login.method
    return excerpt(method.role) if isinstance(method, JwtLogin | CertLogin) and method.role else "?"


def _read_role_command(login: Login) -> str:
    return f"{login.server.command} read auth/{login.auth_mount}/role/{_role_name(login)}"


def _write_role_command(login: Login) -> str:
    return f"{login.server.command} write auth/{login.auth_mount}/role/{_role_name(login)}"


def _role_remedy(login: Login) -> str:
    return (
        "Correct the role in the class, or create it: "
        f"{login.server.command} list auth/{login.auth_mount}/role; "
        "roles belong to one auth method of one namespace."
    )


def _service_account_remedy(login: Login) -> str:
    pod = login.pod
    return (
        f"Let the role take it: {_write_role_command(login)} "
        f"bound_service_account_names={pod.service_account or 'NAME'} "
        f"bound_service_account_namespaces={pod.namespace or 'NAMESPACE'} (with its other fields); "
        "or set serviceAccountName of the pod."
    )


def _subject_remedy(login: Login) -> str:
    return (
        f"Let the role take it: {_write_role_command(login)} "
        f"bound_subject=system:serviceaccount:{login.pod.namespace or 'NAMESPACE'}:"
        f"{login.pod.service_account or 'NAME'} (with its other fields); or set "
        "serviceAccountName of the pod."
    )


def _namespace_remedy(login: Login) -> str:
    return (
        f"Correct vaultNamespace '{excerpt(login.server.namespace)}': "
        f"{login.server.command} namespace list."
    )


def _audience_remedy(login: Login) -> str:
    sent = login.method.audience if isinstance(login.method, JwtLogin) else ""
    asked = (
        f"The class asks for a token with the audience '{excerpt(sent)}'"
        if sent
        else "The class names no audience, so the token is for the default one"
    )
    return (
        f"{asked}. Set audience of the class to what the role takes: "
        f"{_read_role_command(login)}, fields "
        "audience or bound_audiences; the CSIDriver object needs the same in spec.tokenRequests."
    )


def _claims_remedy(login: Login) -> str:
    return (
        "Compare the claims of the pod's token with bound_claims of the role: "
        f"{_read_role_command(login)}"
    )


def _signature_remedy(login: Login) -> str:
    return (
        "The auth method must know the keys of this cluster: "
        f"{login.server.command} read auth/{login.auth_mount}/config; compare with "
        "kubectl get --raw /.well-known/openid-configuration."
    )


def _reviewer_remedy(login: Login) -> str:
    return (
        "The vault asks the cluster's API server about the token and is not let in: give its "
        "reviewer the ClusterRole system:auth-delegator, and check kubernetes_host and "
        f"kubernetes_ca_cert: {login.server.command} read auth/{login.auth_mount}/config"
    )


def _approle_remedy(login: Login) -> str:
    return (
        f"Make a new secret id and put it into the pod's Secret: {login.server.command} write -f "
        f"auth/{login.auth_mount}/role/ROLE/secret-id; it may have expired or be used up."
    )


def _certificate_remedy(login: Login) -> str:
    return (
        "The certificate must be signed by a CA of the role and be within its dates and names: "
        f"{login.server.command} read auth/{login.auth_mount}/certs/{_role_name(login)}; "
        "the listener of the vault must ask for client certificates."
    )


def _general_remedy(status: int, login: Login) -> str:
    if status == 404:
        return (
            f"There is no auth method there: {login.server.command} auth list; "
            f"it belongs to one namespace ({login.server.namespace or 'the root'}). "
            "Set vaultAuthMountPath and vaultNamespace."
        )
    if login.server.address.base.endswith("/v1"):
        return "The address of the vault ends with /v1, which is added by itself: leave it out."
    there = (
        f"Check that auth/{login.auth_mount} exists in this namespace "
        f"({login.server.command} auth list)"
    )
    if not isinstance(login.method, JwtLogin):
        return f"{there}, and is an auth method of that kind."
    return (
        f"{there}, that the role exists ({_read_role_command(login)}), and that the vault "
        "can verify the "
        "tokens of this cluster."
    )


_KNOWN_REFUSALS: tuple[_KnownRefusal, ...] = (
    _KnownRefusal(("invalid role name",), "there is no such role", _role_remedy),
    _KnownRefusal(("role", "could not be found"), "there is no such role", _role_remedy),
    _KnownRefusal(
        ("service account name not authorized",),
        "the role is not for this service account",
        _service_account_remedy,
    ),
    _KnownRefusal(
        ("namespace not authorized",),
        "the role is not for this namespace of the cluster",
        _service_account_remedy,
    ),
    _KnownRefusal(("aud", "claim"), "the token is for another audience", _audience_remedy),
    _KnownRefusal(("audience",), "the token is for another audience", _audience_remedy),
    _KnownRefusal(
        ("subject", "claim"), "the role is not for this service account", _subject_remedy
    ),
    _KnownRefusal(
        ("bound claim",), "a claim of the token is not what the role wants", _claims_remedy
    ),
    _KnownRefusal(
        ("issuer", "claim"),
        "the token comes from another cluster than the role wants",
        _signature_remedy,
    ),
    _KnownRefusal(("signature",), "the vault cannot verify the token", _signature_remedy),
    _KnownRefusal(
        ("lookup failed", "unauthorized"), "the cluster does not accept the token", _reviewer_remedy
    ),
    _KnownRefusal(
        ("service account unauthorized",), "the cluster does not accept the token", _reviewer_remedy
    ),
    _KnownRefusal(
        ("tokenreview",), "the vault cannot ask the cluster about the token", _reviewer_remedy
    ),
    _KnownRefusal(("token is expired",), "the token has expired", _signature_remedy),
    _KnownRefusal(("secret id",), "the secret id or the role id is not valid", _approle_remedy),
    _KnownRefusal(("secret_id",), "the secret id or the role id is not valid", _approle_remedy),
    _KnownRefusal(("role_id",), "the secret id or the role id is not valid", _approle_remedy),
    _KnownRefusal(("role id",), "the secret id or the role id is not valid", _approle_remedy),
    _KnownRefusal(("certificate",), "the certificate is not accepted", _certificate_remedy),
    _KnownRefusal(("namespace not found",), "there is no such namespace", _namespace_remedy),
    _KnownRefusal(
        ("no handler for route",), "there is no such auth method", lambda x: _general_remedy(404, x)
    ),
)
"""The first one whose words are there counts."""
