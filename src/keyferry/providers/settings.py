"""What the built-in providers can be told by flags. [pure]

Source: azure, sections 2.6, 3 and 6.1. A provider reads what concerns it and ignores the rest.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from keyferry.providers.vault_settings import VaultSettings


@dataclass(frozen=True, slots=True)
class ProviderSettings:
    """The settings of all built-in providers of one process."""

    construct_pem_chain: bool = True
    """Whether the certificates of a PEM bundle are put in order, the leaf first."""
    separate_files: bool = False
    """Whether certificate and key of a secret are also written as two files, .crt and .key."""
    cloud_name: str = "AzurePublicCloud"
    """The cloud of classes that name none."""
    token_proxy_url: str = ""
    """Where AKS identity bindings exchange tokens; "" is the API server of this cluster."""
    sni_name: str = ""
    """The TLS server name of the token proxy; "" is found out from its certificate."""
    vault: VaultSettings = field(default_factory=VaultSettings)
    """HashiCorp Vault."""
    openbao: VaultSettings = field(default_factory=VaultSettings)
    """OpenBao."""
