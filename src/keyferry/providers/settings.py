"""What the built-in providers can be told by flags. [pure]

A provider reads what concerns it and ignores the rest.

Source: docs/reference/upstream-azure-provider.md#identity-binding
Source: docs/reference/upstream-azure-provider.md#clouds
Source: docs/reference/upstream-azure-provider.md#flags
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from keyferry.resilience.settings import CallLimits

if TYPE_CHECKING:
    from keyferry.net.http_client import HttpsSettings
    from keyferry.resilience.fetcher import Fetcher
    from keyferry.telemetry.metrics import Metrics


@dataclass(frozen=True, slots=True)
class TlsLayer:
    """What one place says about TLS: the environment, the flags or a class; "" for nothing."""

    ca_file: str = ""
    """PEM certificates to trust; counts before `ca_pem`, and that before `ca_folder`."""
    ca_pem: str = field(default="", repr=False)
    """The same as text."""
    ca_folder: str = ""
    """A folder of such files, walked whole."""
    server_name: str = ""
    """Sent as SNI, and what the certificate must be for."""
    client_cert: str = ""
    """File of the client's certificate."""
    client_key: str = ""
    """File of its key."""
    skip_verify: bool = False
    """Whether the vault's certificate is not verified."""


@dataclass(frozen=True, slots=True)
class VaultSettings:
    """The settings of one of the two providers, for classes that do not say."""

    address: str = "https://127.0.0.1:8200"
    """Of the vault."""
    agent_address: str = ""
    """Of an agent that all requests go through, whatever a class says; "" for none."""
    namespace: str = ""
    """Sent along; "" for the root."""
    auth_mount: str = "kubernetes"
    """The path of the auth method."""
    tls: tuple[TlsLayer, ...] = ()
    """Environment and flags, in this order."""
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """Further headers of every request."""
    follow_redirects: bool = True
    """Whether one redirect is followed."""
    proxy: str = ""
    """Of HTTP, for vaults alone; "" for those of the environment."""
    limits: CallLimits = field(default_factory=CallLimits)
    """Of the calls to its vaults."""
    max_sessions: int = 1000
    """So many logins are kept; 0 for none."""
    kubernetes_url: str = ""
    """The API of the cluster that this process runs in; "" outside of one."""
    service_account_folder: str = "/var/run/secrets/kubernetes.io/serviceaccount"
    """Where token and namespace of this process are, and the CA of that API."""
    create_pod_tokens: bool = False
    """Whether that API is to make the tokens which kubelet did not send."""
    hmac_secret: str = ""
    """The Secret in the namespace of this process that holds the key of versions; "" for none."""
    hmac_key_file: str = ""
    """The file with the key of versions of this node, where there is no Secret; "" for none."""
    renew_leases: bool = True
    """Whether leases are renewed between mounts."""
    lease_idle_seconds: float | None = None
    """Seconds for which they are, at the least, though no volume asks for them; None where somebody
    tells when volumes go, and they are until then."""
    lease_folder: str = ""
    """The folder, in memory, where leases are kept for the next process; "" for none."""


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


# --- What every built-in provider is made of ------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ProviderDependencies:
    """The parts that the composition root has for a provider.

    Attributes:
        https: how its connections are made.
        settings: what it is told.
        fetcher: how it spares the vaults; one for all providers of the process.
        metrics: what is counted; None where nobody looks.
    """

    https: HttpsSettings
    settings: ProviderSettings
    fetcher: Fetcher
    metrics: Metrics | None = None
