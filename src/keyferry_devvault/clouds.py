"""The emulated clouds, and which service a host name belongs to. [pure]"""

from __future__ import annotations

from msgspec import Struct

IMDS_HOST = "169.254.169.254"
API_SERVER_HOST = "kubernetes.default.svc.cluster.local"
"""Host of the API server and of the token proxy of AKS; the TLS server name selects one."""
API_SERVER_CERTIFICATE_NAME = "hcp-kubernetes.696995ccb303450001b31a18.svc.cluster.local"
"""A name in the certificate of the API server, from which clients derive that server name."""
TOKEN_PROXY_NAME = "aeaf29ip1hi5q38ebc3u4daum81u0unk52t5bg50j25234fmuj78g.ests.aks"  # noqa: S105 - a host name
"""The TLS server name of the token proxy of this cluster."""


class EmulatedCloud(Struct, frozen=True):
    """One Azure cloud.

    Attributes:
        name: its `cloudName` in a SecretProviderClass.
        vault_suffix: the host name of a vault without the name of the vault.
        login_hosts: the hosts of its token endpoint; challenges name the first one.
        hsm_suffix: the same for managed HSMs; "" if they are not emulated.
    """

    name: str
    vault_suffix: str
    login_hosts: tuple[str, ...]
    hsm_suffix: str = ""

    @property
    def vault_resource(self) -> str:
        """Return the audience of tokens for the vaults of this cloud."""
        return f"https://{self.vault_suffix}"

    def authority(self, tenant: str) -> str:
        """Return the token authority that the challenge of a vault names."""
        return f"https://{self.login_hosts[0]}/{tenant}"


CLOUDS: tuple[EmulatedCloud, ...] = (
    EmulatedCloud(
        "AzurePublicCloud",
        "vault.azure.net",
        ("login.microsoftonline.com", "login.windows.net", "login.microsoft.com"),
        "managedhsm.azure.net",
    ),
    EmulatedCloud(
        "AzureUSGovernmentCloud", "vault.usgovcloudapi.net", ("login.microsoftonline.us",)
    ),
    EmulatedCloud(
        "AzureChinaCloud",
        "vault.azure.cn",
        ("login.chinacloudapi.cn", "login.partner.microsoftonline.cn"),
    ),
    EmulatedCloud("AzureGermanCloud", "vault.microsoftazure.de", ("login.microsoftonline.de",)),
    # A stand-in for Azure Stack, whose hosts a class names in its own environment file.
    EmulatedCloud("AzureStackCloud", "vault.local", ("login.local", "adfs.local")),
)


class VaultHost(Struct, frozen=True):
    """A vault or a managed HSM, by its name in lower case.

    Attributes:
        cloud: its cloud.
        vault: its name.
        suffix: the rest of its host name.
    """

    cloud: EmulatedCloud
    vault: str
    suffix: str

    @property
    def resource(self) -> str:
        """Return the audience of tokens for it."""
        return f"https://{self.suffix}"


class LoginHost(Struct, frozen=True):
    """The token endpoint of a cloud, with the host of the request."""

    cloud: EmulatedCloud
    name: str


class TokenProxyHost(Struct, frozen=True):
    """The token proxy of AKS, with its TLS server name."""

    server_name: str


class UnknownHost(Struct, frozen=True):
    """A host that is not emulated."""

    name: str


Host = VaultHost | LoginHost | TokenProxyHost | UnknownHost


def parse_host(host_header: str) -> Host:
    """Return the service that a `Host` header names; its port does not matter."""
    host = host_without_port(host_header)
    if host == API_SERVER_HOST:
        return TokenProxyHost(TOKEN_PROXY_NAME)
    for cloud in CLOUDS:
        if host in cloud.login_hosts:
            return LoginHost(cloud, host)
        vault, dot, suffix = host.partition(".")
        if dot and vault and suffix in (cloud.vault_suffix, cloud.hsm_suffix):
            return VaultHost(cloud, vault, suffix)
    return UnknownHost(host)


def host_without_port(host_header: str) -> str:
    """Return the host of a `Host` header in lower case, without port and final dot."""
    host = host_header.rpartition(":")[0] if ":" in host_header else host_header
    return host.lower().rstrip(".")


def cloud_of_resource(resource: str) -> EmulatedCloud | None:
    """Return the cloud of a token resource, with or without a slash at its end; None if unknown."""
    host = resource.removesuffix("/").removeprefix("https://")
    if not host or not resource.startswith("https://"):
        return None
    return next((cloud for cloud in CLOUDS if host in (cloud.vault_suffix, cloud.hsm_suffix)), None)


def server_certificate_names() -> tuple[str, ...]:
    """Return all DNS names of the server certificate."""
    names = ["localhost", "*.local", API_SERVER_HOST, API_SERVER_CERTIFICATE_NAME, TOKEN_PROXY_NAME]
    for cloud in CLOUDS:
        names += [f"*.{cloud.vault_suffix}", *cloud.login_hosts]
        if cloud.hsm_suffix:
            names.append(f"*.{cloud.hsm_suffix}")
    return tuple(names)
