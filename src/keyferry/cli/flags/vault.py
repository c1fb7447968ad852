"""The flags of the providers `vault` and `openbao`, and the settings that they ask for.

Flags count before environment variables, and a class before both.

Source: docs/reference/upstream-vault-provider.md#environment-variables
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.cli.flags.go_flags import FlagKind, GoFlag
from keyferry.errors import PlatformError, Stage
from keyferry.providers.settings import TlsLayer, VaultSettings
from keyferry.providers.vault.environment import read_environment
from keyferry.providers.vault.http.server import parse_address
from keyferry.telemetry.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from keyferry.cli.flags.go_flags import FlagValue
    from keyferry.providers.vault.product import Product

_BOOL, _STRING = FlagKind.BOOL, FlagKind.STRING
_log = get_logger("flags")


LEASE_DIR_FLAG = GoFlag(
    "lease-dir",
    _STRING,
    "",
    "vault, openbao: folder on a tmpfs where leases outlive a restart, such as /run/keyferry; "
    "empty: they do not",
)
"""For commands that run for long."""


def vault_flags(product: Product, *, creates_tokens: bool = False) -> tuple[GoFlag, ...]:
    """The flags that say how vaults of a product are reached where a class does not.

    Args:
        product: whose.
        creates_tokens: whether service-account tokens are made if nothing is said about that.
    """
    name, variable = product.name, product.env_prefixes[0]
    return (
        GoFlag(
            f"{name}-addr", _STRING, "", f"{name}: address of the vault (default ${variable}ADDR)"
        ),
        GoFlag(f"{name}-mount", _STRING, "kubernetes", f"{name}: path of the auth method"),
        GoFlag(
            f"{name}-namespace", _STRING, "", f"{name}: namespace (default ${variable}NAMESPACE)"
        ),
        GoFlag(f"{name}-tls-ca-cert", _STRING, "", f"{name}: PEM file of CAs to trust"),
        GoFlag(f"{name}-tls-ca-directory", _STRING, "", f"{name}: folder of such files"),
        GoFlag(f"{name}-tls-server-name", _STRING, "", f"{name}: name that its certificate is for"),
        GoFlag(f"{name}-tls-client-cert", _STRING, "", f"{name}: file of a client certificate"),
        GoFlag(f"{name}-tls-client-key", _STRING, "", f"{name}: file of its key"),
        GoFlag(
            f"{name}-create-pod-tokens",
            _BOOL,
            str(creates_tokens).lower(),
            f"{name}: have Kubernetes make the service-account tokens that kubelet did not send",
        ),
        GoFlag(f"{name}-tls-skip-verify", _BOOL, "false", f"{name}: do NOT verify its certificate"),
    )


def hmac_flag(product: Product, *, prefix: str = "") -> GoFlag:
    """The flag that names the Secret with the key of versions.

    Args:
        product: whose.
        prefix: of its name, where the flags of several products stand side by side.
    """
    return GoFlag(
        f"{prefix}hmac-secret-name",
        _STRING,
        product.default_hmac_secret,
        f"{product.name}: Secret with the key of versions, in the namespace of this pod; empty: a "
        "key of this node",
    )


def vault_settings(
    product: Product,
    environ: Mapping[str, str],
    values: Mapping[str, FlagValue],
    *,
    lease_idle: float | None = None,
    hmac_key_folder: Path | None = None,
) -> VaultSettings:
    """What flags and environment say together.

    Args:
        product: whose.
        environ: the environment variables.
        values: of the flags.
        lease_idle: seconds after which what no volume asks for is let go; None where the command
            hears when volumes go.
        hmac_key_folder: where a key of versions may be kept from one run to the next; None for
            nowhere.

    Raises:
        PlatformError: a variable cannot be understood, or a client certificate has no key.
    """
    found = read_environment(environ, product)

    def text(flag: str) -> str:
        return str(values.get(f"{product.name}-{flag}", ""))

    given = TlsLayer(
        ca_file=text("tls-ca-cert"),
        ca_folder=text("tls-ca-directory"),
        server_name=text("tls-server-name"),
        client_cert=text("tls-client-cert"),
        client_key=text("tls-client-key"),
        skip_verify=bool(values.get(f"{product.name}-tls-skip-verify")),
    )
    variable = product.env_prefixes[0]
    _require_pair(found.tls, f"{variable}CLIENT_CERT", f"{variable}CLIENT_KEY")
    _require_pair(given, f"--{product.name}-tls-client-cert", f"--{product.name}-tls-client-key")
    default = VaultSettings()
    return VaultSettings(
        address=text("addr") or found.address or default.address,
        agent_address=found.agent_address,
        namespace=text("namespace") or found.namespace,
        auth_mount=text("mount") or default.auth_mount,
        tls=tuple(layer for layer in (found.tls, given) if layer != TlsLayer()),
        headers=found.headers,
        follow_redirects=found.follow_redirects,
        proxy=found.proxy,
        limits=found.limits,
        max_sessions=int(values.get("cache-size", default.max_sessions)),
        kubernetes_url=_kubernetes_url(environ),
        create_pod_tokens=bool(values.get(f"{product.name}-create-pod-tokens")),
        hmac_secret=text("hmac-secret-name") or str(values.get("hmac-secret-name", "")),
        hmac_key_file=str(hmac_key_folder / f"{product.name}-hmac.key") if hmac_key_folder else "",
        lease_idle_seconds=lease_idle,
        lease_folder=str(values.get(LEASE_DIR_FLAG.name, "")),
    )


def warn_ignored_variables(environ: Mapping[str, str], *products: Product) -> None:
    """Log one warning a variable that is set and has no effect.

    Raises:
        PlatformError: a variable cannot be understood.
    """
    found = dict(
        each for product in products for each in read_environment(environ, product).ignored
    )
    for name, why in found.items():
        _log.warning("an environment variable has no effect", variable=name, why=why)


def _require_pair(layer: TlsLayer, cert: str, key: str) -> None:
    """A client certificate has its key, said in the same place; no mount could do without.

    Raises:
        PlatformError: one of the two is missing.
    """
    if bool(layer.client_cert) == bool(layer.client_key):
        return
    given, missing = (cert, key) if layer.client_cert else (key, cert)
    raise PlatformError(
        f"{given} is set and {missing} is not",
        "Set both, in the same place, or neither.",
        stage=Stage.REQUEST,
    )


def _kubernetes_url(environ: Mapping[str, str]) -> str:
    """The API of the cluster that this process runs in; "" outside of one.

    Raises:
        PlatformError: the variables that kubelet sets make no address.
    """
    host = environ.get("KUBERNETES_SERVICE_HOST", "")
    port = environ.get("KUBERNETES_SERVICE_PORT", "") or "443"
    if not host:
        return ""
    url = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    try:
        parse_address(url)
    except ValueError as error:
        raise PlatformError(
            "KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT make no address of an API",
            "Leave both as kubelet sets them, or unset them outside of a cluster.",
            stage=Stage.REQUEST,
        ) from error
    return url
