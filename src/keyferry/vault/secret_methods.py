"""Auth methods whose proof is in the pod's `nodePublishSecretRef`: extensions of ours. [pure]"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from keyferry.errors import IdentityError
from keyferry.vault.grant import is_token
from keyferry.vault.login import AppRoleLogin, CertLogin, Method, TokenLogin

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class MethodProfile:
    """What one word of `vaultAuthMethod` means.

    Attributes:
        needs_role: whether the class must name a role.
        from_secret: whether its proof is in the pod's Secret.
        keys: of that Secret, all of them needed.
    """

    needs_role: bool = False
    from_secret: bool = True
    keys: tuple[str, ...] = ()


METHODS: Mapping[str, MethodProfile] = MappingProxyType(
    {
        "kubernetes": MethodProfile(needs_role=True, from_secret=False),
        "jwt": MethodProfile(needs_role=True, from_secret=False),
        "approle": MethodProfile(keys=("role_id", "secret_id")),
        "cert": MethodProfile(keys=("tls.crt", "tls.key")),
        "token": MethodProfile(keys=("token",)),
    }
)


def default_mount(kind: str) -> str:
    """Where the method is, for classes that do not say; "" leaves it to the settings."""
    return "" if kind == "kubernetes" else kind


def method_from_secret(kind: str, secrets: Mapping[str, str], *, role: str) -> tuple[Method, bytes]:
    """The method, and the client certificate with its key in PEM; none for other methods.

    Raises:
        IdentityError: the Secret lacks a key, or its token can be none.
    """
    wanted = METHODS[kind].keys
    values = [secrets.get(key, "").strip() for key in wanted]
    missing = [key for key, value in zip(wanted, values, strict=True) if not value]
    if missing:
        raise IdentityError(
            f"vaultAuthMethod is {kind}, and the pod's Secret has no {' and no '.join(missing)}",
            f"Set nodePublishSecretRef of the volume to a Secret with {' and '.join(wanted)}.",
        )
    match kind:
        case "approle":
            return AppRoleLogin(values[0], values[1]), b""
        case "cert":
            return CertLogin(role), f"{values[0]}\n{values[1]}\n".encode(errors="surrogatepass")
        case _ if is_token(values[0]):
            return TokenLogin(values[0]), b""
        case _:
            raise IdentityError(
                "token of the pod's Secret is no token of a vault: it holds spaces, control "
                "characters or letters beyond ASCII",
                "Put the token itself into the Secret, one line without quotes.",
            )
