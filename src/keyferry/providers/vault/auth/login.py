"""Logins to a vault: the auth methods, their request bodies and the identity of a login. [pure]

`kubernetes` and `jwt` share one method here because their login requests are equal. AppRole,
certificate and token are Keyferry extensions.

Source: docs/reference/upstream-vault-provider.md#login
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, assert_never

from msgspec import Struct

from keyferry.errors import IdentityError, excerpt
from keyferry.formats.go_json import write_json
from keyferry.formats.unknown_fields import correct_missing
from keyferry.providers.known_fields.vault import SECRET_KEYS
from keyferry.providers.service_account_tokens import read_claims
from keyferry.providers.vault.auth.token import is_valid_token
from keyferry.resilience.call_context import Caller

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keyferry.formats.go_json import Json
    from keyferry.providers.vault.http.server import Server


class PodInfo(Struct, frozen=True):
    """The pod of a mount, as kubelet describes it; fields that kubelet did not send are ""."""

    namespace: str = ""
    name: str = ""
    uid: str = ""
    service_account: str = ""

    @property
    def caller(self) -> Caller:
        """The pod as the caller of a vault."""
        return Caller(self.namespace, self.service_account)


@dataclass(frozen=True, slots=True)
class JwtLogin:
    """Login with the pod's service-account token, for the auth methods `kubernetes` and `jwt`.

    Attributes:
        role: role of the auth method.
        audience: audience that the SecretProviderClass sets; "" for the product's default.
        token: the token; "" if kubelet sent none and one must be requested.
    """

    role: str
    audience: str
    token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class AppRoleLogin:
    """Login with the AppRole role ID and secret ID from the pod's Secret."""

    role_id: str
    secret_id: str = field(repr=False)


class CertLogin(Struct, frozen=True):
    """Login with a TLS client certificate from the pod's Secret.

    Attributes:
        role: role of the auth method; "" lets the vault choose one.
    """

    role: str


@dataclass(frozen=True, slots=True)
class TokenLogin:
    """A vault token from the pod's Secret; no login is necessary."""

    token: str = field(repr=False)


LoginMethod = JwtLogin | AppRoleLogin | CertLogin | TokenLogin


class Login(Struct, frozen=True):
    """The login of one pod to one vault.

    Attributes:
        server: the vault.
        auth_mount: path of the auth method below `auth/`.
        method: auth method with the latest credentials.
        pod: pod that the login is for.
    """

    server: Server
    auth_mount: str
    method: LoginMethod
    pod: PodInfo

    @property
    def path(self) -> str:
        """The API path of the login request."""
        return f"auth/{self.auth_mount}/login"

    @property
    def caller(self) -> Caller:
        """On whose behalf the vault is called."""
        return self.pod.caller

    @property
    def mode(self) -> str:
        """The kind of the login in one word."""
        return self._mode_and_credentials()[0]

    @property
    def display_name(self) -> str:
        """The identity as messages name it."""
        match self.method:
            case JwtLogin(role):
                account = f"{self.pod.namespace or '?'}/{self.pod.service_account or '?'}"
                return f"role '{excerpt(role)}' as service account {excerpt(account)}"
            case AppRoleLogin():
                return "AppRole of the pod's Secret"
            case CertLogin(role):
                return f"role '{excerpt(role)}' with a certificate" if role else "a certificate"
            case TokenLogin():
                return "the token of the pod's Secret"
            case _:
                assert_never(self.method)

    @property
    def audit_names(self) -> tuple[tuple[str, str], ...]:
        """The names of the identity for the audit log, as (field, value); no credential."""
        role, auth_mount = "", self.auth_mount
        match self.method:
            case JwtLogin(role) | CertLogin(role):
                pass
            case AppRoleLogin():
                pass  # the role ID is half of the credential
            case TokenLogin():
                auth_mount = ""
            case _:
                assert_never(self.method)
        namespace = self.server.namespace
        names = (("namespace", namespace), ("authMount", auth_mount), ("role", role))
        return (("mode", self.mode), *names)

    def identity_parts(self, *, per_pod: bool) -> tuple[str, ...]:
        """Return the parts of the identity: equal for logins that the vault cannot distinguish.

        They contain credentials, so they must be hashed and not stored.

        Args:
            per_pod: whether the vault may distinguish the pods of one service account.
        """
        place = (
            self.server.address.base,
            self.server.address.socket,
            self.server.namespace,
            *self.server.tls.identity_parts,
            self.auth_mount,
        )
        pod = (self.pod.namespace, self.pod.name, self.pod.uid) if per_pod else ()
        return (*place, *self._mode_and_credentials()[1], *pod)

    def body(self, jwt: str) -> bytes | None:
        """Return the JSON body of the login request; None if no login is necessary.

        Args:
            jwt: service-account token, for methods that need one.
        """
        fields: dict[str, Json]
        match self.method:
            case JwtLogin(role):
                fields = {"jwt": jwt, "role": role}
            case AppRoleLogin(role_id, secret_id):
                fields = {"role_id": role_id, "secret_id": secret_id}
            case CertLogin(role):
                fields = {"name": role} if role else {}
            case TokenLogin():
                return None
            case _:
                assert_never(self.method)
        return write_json(fields)

    def secrets(self, jwt: str) -> tuple[str, ...]:
        """Return the secrets in the body of the login request.

        Args:
            jwt: service-account token, for methods that need one.
        """
        match self.method:
            case JwtLogin():
                return (jwt,)
            case AppRoleLogin(_, secret_id):
                return (secret_id,)
            case CertLogin() | TokenLogin():
                return ()
            case _:
                assert_never(self.method)

    def _mode_and_credentials(self) -> tuple[str, tuple[str, ...]]:
        match self.method:
            case JwtLogin(role, audience, token):
                return "jwt", (role, audience, *self._token_subject(token))
            case AppRoleLogin(role_id, secret_id):
                return "approle", (role_id, secret_id)
            case CertLogin(role):
                return "cert", (role,)  # the certificate is part of the TLS settings
            case TokenLogin(token):
                return "token", (token,)
            case _:
                assert_never(self.method)

    def _token_subject(self, token: str) -> tuple[str, ...]:
        """Return what stays equal when kubelet renews the token; the token itself if unknown."""
        if not self.pod.service_account:
            return (token,)
        claims = read_claims(token)
        account = claims.kubernetes.serviceaccount.uid
        return (self.pod.namespace, self.pod.service_account, claims.iss, claims.sub, account)


# --- Auth methods with credentials in the pod's `nodePublishSecretRef`: Keyferry extensions -------


class MethodProfile(Struct, frozen=True):
    """The requirements of one value of `vaultAuthMethod`.

    Attributes:
        needs_role: whether the SecretProviderClass must name a role.
        has_role: whether it may name a role.
        from_secret: whether the credentials are in the pod's Secret.
        secret_keys: required keys of that Secret.
    """

    needs_role: bool = False
    has_role: bool = False
    from_secret: bool = True
    secret_keys: tuple[str, ...] = ()


AUTH_METHODS: Mapping[str, MethodProfile] = MappingProxyType(
    {
        "kubernetes": MethodProfile(needs_role=True, has_role=True, from_secret=False),
        "jwt": MethodProfile(needs_role=True, has_role=True, from_secret=False),
        "approle": MethodProfile(secret_keys=("role_id", "secret_id")),
        "cert": MethodProfile(has_role=True, secret_keys=("tls.crt", "tls.key")),
        "token": MethodProfile(secret_keys=("token",)),
    }
)


def default_auth_mount(method_name: str) -> str:
    """Return the default path of an auth method; "" to use the path from the settings."""
    return "" if method_name == "kubernetes" else method_name


def method_from_secret(
    method_name: str, secrets: Mapping[str, str], *, role: str
) -> tuple[LoginMethod, bytes]:
    """Create a login method from the pod's Secret.

    Args:
        method_name: key of `AUTH_METHODS`.
        secrets: data of the Secret.
        role: role of the auth method; "" for none.

    Returns:
        The method, and the client certificate with its key in PEM, which is empty for methods
        without one.

    Raises:
        IdentityError: the Secret lacks a key, or contains an invalid token.
    """
    keys = AUTH_METHODS[method_name].secret_keys
    values = [secrets.get(key, "").strip() for key in keys]
    missing = [key for key, value in zip(keys, values, strict=True) if not value]
    if missing:
        remedy = f"Set nodePublishSecretRef of the volume to a Secret with {' and '.join(keys)}."
        written, remedy = correct_missing(SECRET_KEYS, (missing[0],), secrets, remedy)
        raise IdentityError(
            f"vaultAuthMethod {method_name} needs {' and '.join(keys)}, but the pod's Secret has "
            f"no {' and no '.join(missing)}{written}",
            remedy,
        )
    match method_name:
        case "approle":
            return AppRoleLogin(values[0], values[1]), b""
        case "cert":
            return CertLogin(role), f"{values[0]}\n{values[1]}\n".encode(errors="surrogatepass")
        case _ if is_valid_token(values[0]):
            return TokenLogin(values[0]), b""
        case _:
            raise IdentityError(
                "token of the pod's Secret is not a valid vault token: it contains spaces, control "
                "characters or non-ASCII characters, or is too long",
                "Store only the token in the Secret, as one line without quotes.",
            )
