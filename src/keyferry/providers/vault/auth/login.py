"""Who logs in to a vault, how, and what tells one from another. [pure]

`kubernetes` and `jwt` are one method, because their login is one call; AppRole, certificate and
token are extensions of ours.

Source: docs/reference/upstream-vault-provider.md#login
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, assert_never

from keyferry.errors import IdentityError
from keyferry.formats.go_json import write_json
from keyferry.providers.service_account_tokens import read_claims
from keyferry.providers.vault.auth.token import is_valid_token

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keyferry.formats.go_json import Json
    from keyferry.providers.vault.http.server import Server


@dataclass(frozen=True, slots=True)
class PodInfo:
    """Whose mount it is, as kubelet says; each may be "" where it does not."""

    namespace: str = ""
    name: str = ""
    uid: str = ""
    service_account: str = ""


@dataclass(frozen=True, slots=True)
class JwtLogin:
    """The pod's own service-account token, for the auth methods `kubernetes` and `jwt`.

    Attributes:
        role: of the auth method.
        audience: what the class asks for; "" for the default of the product.
        token: the token; "" where kubelet sent none and one must be made.
    """

    role: str
    audience: str
    token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class AppRoleLogin:
    """A role id and a secret id, out of the pod's Secret."""

    role_id: str
    secret_id: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class CertLogin:
    """The client certificate of the TLS connection, out of the pod's Secret.

    Attributes:
        role: of the auth method; "" lets the vault find one.
    """

    role: str


@dataclass(frozen=True, slots=True)
class TokenLogin:
    """A token of the vault itself, out of the pod's Secret."""

    token: str = field(repr=False)


LoginMethod = JwtLogin | AppRoleLogin | CertLogin | TokenLogin


@dataclass(frozen=True, slots=True)
class Login:
    """Who logs in where.

    Attributes:
        server: to which vault.
        auth_mount: the path of the auth method, below `auth/`.
        method: how, with the newest proof.
        pod: for whom.
    """

    server: Server
    auth_mount: str
    method: LoginMethod
    pod: PodInfo

    @property
    def path(self) -> str:
        """The path of the API that it posts to."""
        return f"auth/{self.auth_mount}/login"

    @property
    def mode(self) -> str:
        """The kind of the login, one word."""
        return self._mode_and_credentials()[0]

    @property
    def display_name(self) -> str:
        """How messages call it."""
        match self.method:
            case JwtLogin(role):
                account = f"{self.pod.namespace or '?'}/{self.pod.service_account or '?'}"
                return f"role '{role}' as service account {account}"
            case AppRoleLogin():
                return "AppRole of the pod's Secret"
            case CertLogin(role):
                return f"role '{role}' with a certificate" if role else "a certificate"
            case TokenLogin():
                return "the token of the pod's Secret"
            case _:
                assert_never(self.method)

    def identity_parts(self, *, per_pod: bool) -> tuple[str, ...]:
        """The whole identity: equal for logins that the vault cannot tell apart; not to be kept.

        Args:
            per_pod: whether it may tell the pods of one service account apart.
        """
        where = (
            self.server.address.base,
            self.server.address.socket,
            self.server.namespace,
            *self.server.tls.identity_parts,
            self.auth_mount,
        )
        pod = (self.pod.namespace, self.pod.name, self.pod.uid) if per_pod else ()
        return (*where, *self._mode_and_credentials()[1], *pod)

    def body(self, jwt: str) -> bytes | None:
        """What is posted; None where there is nothing to ask for.

        Args:
            jwt: the service-account token, for the methods that need one.
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
        """What is secret of that body.

        Args:
            jwt: as above.
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
                return "cert", (role,)  # the certificate is part of how TLS is spoken
            case TokenLogin(token):
                return "token", (token,)
            case _:
                assert_never(self.method)

    def _token_subject(self, token: str) -> tuple[str, ...]:
        """What stays equal when kubelet renews a token; the token itself where it is not known."""
        if not self.pod.service_account:
            return (token,)
        claims = read_claims(token)
        account = claims.kubernetes.serviceaccount.uid
        return (self.pod.namespace, self.pod.service_account, claims.iss, claims.sub, account)


# --- Auth methods whose proof is in the pod's `nodePublishSecretRef`: extensions of ours ----------


@dataclass(frozen=True, slots=True)
class MethodProfile:
    """What one word of `vaultAuthMethod` means.

    Attributes:
        needs_role: whether the class must name a role.
        from_secret: whether its proof is in the pod's Secret.
        secret_keys: of that Secret, all of them needed.
    """

    needs_role: bool = False
    from_secret: bool = True
    secret_keys: tuple[str, ...] = ()


AUTH_METHODS: Mapping[str, MethodProfile] = MappingProxyType(
    {
        "kubernetes": MethodProfile(needs_role=True, from_secret=False),
        "jwt": MethodProfile(needs_role=True, from_secret=False),
        "approle": MethodProfile(secret_keys=("role_id", "secret_id")),
        "cert": MethodProfile(secret_keys=("tls.crt", "tls.key")),
        "token": MethodProfile(secret_keys=("token",)),
    }
)


def default_auth_mount(method_name: str) -> str:
    """Where the method is, for classes that do not say; "" leaves it to the settings."""
    return "" if method_name == "kubernetes" else method_name


def method_from_secret(
    method_name: str, secrets: Mapping[str, str], *, role: str
) -> tuple[LoginMethod, bytes]:
    """The method, and the client certificate with its key in PEM; none for other methods.

    Raises:
        IdentityError: the Secret lacks a key, or its token can be none.
    """
    wanted = AUTH_METHODS[method_name].secret_keys
    values = [secrets.get(key, "").strip() for key in wanted]
    missing = [key for key, value in zip(wanted, values, strict=True) if not value]
    if missing:
        raise IdentityError(
            f"vaultAuthMethod is {method_name}, and the pod's Secret has no "
            f"{' and no '.join(missing)}",
            f"Set nodePublishSecretRef of the volume to a Secret with {' and '.join(wanted)}.",
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
                "token of the pod's Secret is no token of a vault: it holds spaces, control "
                "characters or letters beyond ASCII",
                "Put the token itself into the Secret, one line without quotes.",
            )
