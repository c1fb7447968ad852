"""Auth methods whose proof is in the pod's `nodePublishSecretRef`: extensions of ours. [pure]"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from keyferry.errors import IdentityError
from keyferry.providers.vault.auth.login import AppRoleLogin, CertLogin, LoginMethod, TokenLogin
from keyferry.providers.vault.auth.token import is_valid_token

if TYPE_CHECKING:
    from collections.abc import Mapping


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
