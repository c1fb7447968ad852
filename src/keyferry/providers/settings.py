"""Settings of the built-in providers, from flags and environment variables. [pure]

Each provider reads the settings that apply to it and ignores the rest.

Source: docs/reference/upstream-azure-provider.md#identity-binding
Source: docs/reference/upstream-azure-provider.md#clouds
Source: docs/reference/upstream-azure-provider.md#flags
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from keyferry.content import DEFAULT_MAX_BYTES
from keyferry.providers.restrictions import ClassRestrictions
from keyferry.resilience.settings import CallLimits

if TYPE_CHECKING:
    from keyferry.aio.jobs import JobRunner
    from keyferry.net.http_client import HttpsSettings
    from keyferry.providers.emulator import Emulator
    from keyferry.providers.mount_limits import MountLimits
    from keyferry.providers.privileges import Privileges
    from keyferry.resilience.fetcher import Fetcher
    from keyferry.telemetry.metrics import ProviderMetrics


@dataclass(frozen=True, slots=True)
class TlsLayer:
    """TLS settings from one place: the environment, the flags or a SecretProviderClass.

    "" means that the setting is not set there.
    """

    ca_file: str = ""
    """File with trusted CA certificates in PEM; takes precedence over `ca_pem` and `ca_folder`."""
    ca_pem: str = field(default="", repr=False)
    """Trusted CA certificates in PEM; takes precedence over `ca_folder`."""
    ca_folder: str = ""
    """Directory with files of CA certificates in PEM, searched recursively."""
    server_name: str = ""
    """Name that is sent as SNI and expected in the server certificate."""
    client_cert: str = ""
    """File with the client certificate."""
    client_key: str = ""
    """File with the private key of the client certificate."""
    skip_verify: bool = False
    """Whether the vault's certificate is not verified."""
    from_class: bool = False
    """Whether a SecretProviderClass is the source, so that its paths are restricted."""

    @property
    def files(self) -> tuple[str, ...]:
        """The files and directories that are set."""
        named = self.ca_file, self.ca_folder, self.client_cert, self.client_key
        return tuple(path for path in named if path)


@dataclass(frozen=True, slots=True)
class VaultSettings:
    """Settings of the Vault or the OpenBao provider; defaults for SecretProviderClasses."""

    address: str = ""
    """Address of the vault; "" for none, which means https://127.0.0.1:8200 as upstream."""
    agent_address: str = ""
    """Address of an agent that receives all requests, regardless of `address`; "" for none."""
    namespace: str = ""
    """Namespace of the vault; "" for the root namespace."""
    auth_mount: str = "kubernetes"
    """Path of the auth method."""
    tls: tuple[TlsLayer, ...] = ()
    """TLS settings of the environment and of the flags, in this order."""
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """Further headers of each request."""
    follow_redirects: bool = True
    """Whether one redirect is followed."""
    proxy: str = ""
    """URL of an HTTP proxy for vaults only; "" to use HTTPS_PROXY and HTTP_PROXY."""
    limits: CallLimits = field(default_factory=CallLimits)
    """Rate limit, retries and timeout of requests to a vault."""
    max_sessions: int = 1000
    """Maximum number of cached logins; 0 to cache none."""
    kubernetes_url: str = ""
    """URL of the Kubernetes API; "" if the process does not run in a cluster."""
    service_account_folder: str = "/var/run/secrets/kubernetes.io/serviceaccount"
    """Directory with the token, the namespace and the API's CA of this process."""
    create_pod_tokens: bool = False
    """Whether to request the tokens that kubelet did not send from the Kubernetes API."""
    hmac_secret: str = ""
    """Secret with the HMAC key for object versions, in this process's namespace; "" for none."""
    hmac_key_file: str = ""
    """File with this node's HMAC key for object versions, used without a Secret; "" for none."""
    renew_leases: bool = True
    """Whether leases are renewed between mounts."""
    lease_idle_seconds: float | None = None
    """Minimum time without a mount call after which a volume counts as removed; None if the driver
    reports removed volumes."""
    lease_folders: tuple[str, ...] = ()
    """Directories in which leases survive a restart of the process. The first one on a tmpfs is
    used."""


class ProviderSettings(Struct, frozen=True):
    """Settings of all built-in providers of one process."""

    max_mount_bytes: int = DEFAULT_MAX_BYTES
    """The maximum size of the files of one volume."""
    construct_pem_chain: bool = True
    """Whether certificates that are converted from PKCS#12 are sorted, leaf first."""
    separate_files: bool = False
    """Whether a certificate and its key are also written as two files, .crt and .key."""
    cloud_name: str = "AzurePublicCloud"
    """Azure cloud for SecretProviderClasses that name none."""
    token_proxy_url: str = ""
    """Token exchange endpoint of AKS identity bindings; "" for the cluster's API server."""
    sni_name: str = ""
    """TLS server name of the token proxy; "" to take it from the proxy's certificate."""
    vault: VaultSettings = msgspec.field(default_factory=VaultSettings)
    """HashiCorp Vault."""
    openbao: VaultSettings = msgspec.field(default_factory=VaultSettings)
    """OpenBao."""
    restrictions: ClassRestrictions = msgspec.field(default_factory=ClassRestrictions)
    """What SecretProviderClasses may name."""


# --- Dependencies of built-in providers -----------------------------------------------------------


class ProviderDependencies(Struct, frozen=True):
    """The objects from which a built-in provider is created.

    Attributes:
        https: settings of HTTPS connections.
        settings: settings of the providers.
        fetcher: cache and rate limits, shared by all providers of the process.
        jobs: runs the parse jobs, which read key material.
        metrics: metrics to update; None for none.
        emulator: the emulator that `https` connects to; None in production.
        privileges: the privileged side of the provider; None to run it in this process.
        mount_limits: limits of mounts, shared by all providers of the process; None to build them
            from `settings`.
    """

    https: HttpsSettings
    settings: ProviderSettings
    fetcher: Fetcher
    jobs: JobRunner
    metrics: ProviderMetrics | None = None
    emulator: Emulator | None = None
    privileges: Privileges | None = None
    mount_limits: MountLimits | None = None
