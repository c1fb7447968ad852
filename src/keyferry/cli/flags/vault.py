"""Flags of the providers `vault` and `openbao`, and the settings that they request.

A SecretProviderClass overrides flags, and flags override environment variables.

Source: docs/reference/upstream-vault-provider.md#environment-variables
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.cli.flags.go_flags import FlagKind, GoFlag
from keyferry.errors import SettingInvalidError
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
    "vault, openbao: folder on a tmpfs that keeps leases across restarts, such as /run/keyferry; "
    "of several, separated by commas, the first on a tmpfs; empty disables this",
)
"""For long-running commands."""


def vault_flags(product: Product, *, creates_tokens: bool = False) -> tuple[GoFlag, ...]:
    """Return the flags that set defaults for SecretProviderClasses of a product.

    Args:
        product: Vault or OpenBao.
        creates_tokens: the default of the flag that requests service account tokens.
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
        GoFlag(
            f"{name}-tls-ca-cert", _STRING, "", f"{name}: PEM file with trusted CA certificates"
        ),
        GoFlag(
            f"{name}-tls-ca-directory",
            _STRING,
            "",
            f"{name}: folder with PEM files of trusted CA certificates",
        ),
        GoFlag(
            f"{name}-tls-server-name",
            _STRING,
            "",
            f"{name}: expected server name in the TLS certificate",
        ),
        GoFlag(
            f"{name}-tls-client-cert", _STRING, "", f"{name}: PEM file with the client certificate"
        ),
        GoFlag(
            f"{name}-tls-client-key",
            _STRING,
            "",
            f"{name}: PEM file with the key of the client certificate",
        ),
        GoFlag(
            f"{name}-create-pod-tokens",
            _BOOL,
            str(creates_tokens).lower(),
            f"{name}: request service account tokens from Kubernetes if kubelet sends none",
        ),
        GoFlag(
            f"{name}-tls-skip-verify", _BOOL, "false", f"{name}: do NOT verify the TLS certificate"
        ),
    )


def hmac_flag(product: Product, *, prefix: str = "") -> GoFlag:
    """Return the flag that names the Secret with the HMAC key for object versions.

    Args:
        product: Vault or OpenBao.
        prefix: prepended to the name of the flag in commands that serve several products.
    """
    return GoFlag(
        f"{prefix}hmac-secret-name",
        _STRING,
        product.default_hmac_secret,
        f"{product.name}: Secret with the HMAC key for object versions, in the namespace of this "
        "pod; empty means a key per node",
    )


def vault_settings(
    product: Product,
    environ: Mapping[str, str],
    values: Mapping[str, FlagValue],
    *,
    lease_idle: float | None = None,
    hmac_key_folder: Path | None = None,
) -> VaultSettings:
    """Return the settings that flags and environment variables request.

    Args:
        product: Vault or OpenBao.
        environ: the environment variables.
        values: the values of the flags, by name.
        lease_idle: seconds without a request after which the leases of a volume are revoked; None
            if the command is notified when a volume is removed.
        hmac_key_folder: folder for the HMAC key of object versions; None if it is not persisted.

    Raises:
        SettingInvalidError: a variable has an invalid value, or a client certificate has no key.
    """
    variables = read_environment(environ, product)

    def text(flag: str) -> str:
        return str(values.get(f"{product.name}-{flag}", ""))

    flag_tls = TlsLayer(
        ca_file=text("tls-ca-cert"),
        ca_folder=text("tls-ca-directory"),
        server_name=text("tls-server-name"),
        client_cert=text("tls-client-cert"),
        client_key=text("tls-client-key"),
        skip_verify=bool(values.get(f"{product.name}-tls-skip-verify")),
    )
    variable = product.env_prefixes[0]
    _require_pair(variables.tls, f"{variable}CLIENT_CERT", f"{variable}CLIENT_KEY")
    _require_pair(flag_tls, f"--{product.name}-tls-client-cert", f"--{product.name}-tls-client-key")
    default = VaultSettings()
    return VaultSettings(
        address=text("addr") or variables.address,
        agent_address=variables.agent_address,
        namespace=text("namespace") or variables.namespace,
        auth_mount=text("mount") or default.auth_mount,
        tls=tuple(layer for layer in (variables.tls, flag_tls) if layer != TlsLayer()),
        headers=variables.headers,
        follow_redirects=variables.follow_redirects,
        proxy=variables.proxy,
        limits=variables.limits,
        max_sessions=int(values.get("cache-size", default.max_sessions)),
        kubernetes_url=_kubernetes_url(environ),
        create_pod_tokens=bool(values.get(f"{product.name}-create-pod-tokens")),
        hmac_secret=text("hmac-secret-name") or str(values.get("hmac-secret-name", "")),
        hmac_key_file=str(hmac_key_folder / f"{product.name}-hmac.key") if hmac_key_folder else "",
        lease_idle_seconds=lease_idle,
        lease_folders=tuple(filter(None, str(values.get(LEASE_DIR_FLAG.name, "")).split(","))),
    )


def warn_ignored_variables(environ: Mapping[str, str], *products: Product) -> None:
    """Log a warning for each variable that is set but has no effect.

    Raises:
        SettingInvalidError: a variable has an invalid value.
    """
    variables = dict(
        each for product in products for each in read_environment(environ, product).ignored
    )
    for name, why in variables.items():
        _log.warning("environment variable has no effect", variable=name, why=why)


def _require_pair(layer: TlsLayer, cert: str, key: str) -> None:
    """Require that a client certificate and its key are configured in the same place.

    Raises:
        SettingInvalidError: one of them is missing.
    """
    if bool(layer.client_cert) == bool(layer.client_key):
        return
    present, missing = (cert, key) if layer.client_cert else (key, cert)
    raise SettingInvalidError(
        f"{present} is set, but {missing} is not",
        "Set both, in the same place, or neither.",
    )


def _kubernetes_url(environ: Mapping[str, str]) -> str:
    """Return the URL of the Kubernetes API of this pod; "" outside a cluster.

    Raises:
        SettingInvalidError: the variables that kubelet sets do not form a valid address.
    """
    host = environ.get("KUBERNETES_SERVICE_HOST", "")
    port = environ.get("KUBERNETES_SERVICE_PORT", "") or "443"
    if not host:
        return ""
    url = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    try:
        parse_address(url)
    except ValueError as error:
        raise SettingInvalidError(
            "KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT do not form a valid address",
            "Keep the values that kubelet sets, or unset both outside a cluster.",
        ) from error
    return url
