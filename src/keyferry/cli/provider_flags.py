"""The flags of the built-in providers, for every command that runs one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.cli.goflags import GoFlag, Kind
from keyferry.provider_settings import ProviderSettings

if TYPE_CHECKING:
    from keyferry.cli.goflags import Flags

PROVIDER_FLAGS: tuple[GoFlag, ...] = (
    GoFlag(
        "construct-pem-chain",
        Kind.BOOL,
        "true",
        "azure: put the certificates of a PEM bundle in order, the leaf first",
    ),
    GoFlag(
        "write-cert-and-key-in-separate-files",
        Kind.BOOL,
        "false",
        "azure: also write certificate and key of a secret as two files, .crt and .key",
    ),
    GoFlag(
        "cloud-name",
        Kind.STRING,
        ProviderSettings().cloud_name,
        "azure: the cloud of classes that name none",
    ),
    GoFlag(
        "token-proxy-url",
        Kind.STRING,
        "",
        "azure: where AKS identity bindings exchange tokens; empty: the API server",
    ),
    GoFlag(
        "sni-name",
        Kind.STRING,
        "",
        "azure: TLS server name of the token proxy; empty: found out from the API server",
    ),
)


def provider_settings(flags: Flags) -> ProviderSettings:
    """The settings that `flags` ask for."""
    values = flags.values
    return ProviderSettings(
        construct_pem_chain=bool(values["construct-pem-chain"]),
        separate_files=bool(values["write-cert-and-key-in-separate-files"]),
        cloud_name=str(values["cloud-name"]),
        token_proxy_url=str(values["token-proxy-url"]),
        sni_name=str(values["sni-name"]),
    )
