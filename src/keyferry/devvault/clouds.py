"""The clouds that the development vault plays, and which station a host name means. [pure]"""

from __future__ import annotations

from dataclasses import dataclass

IMDS_HOST = "169.254.169.254"


@dataclass(frozen=True, slots=True)
class Cloud:
    """One cloud of Azure.

    Attributes:
        name: as `cloudName` of a class says it.
        vault_suffix: what follows the name of a vault in its host name.
        login_hosts: the hosts of its token endpoint; the first one stands in challenges.
    """

    name: str
    vault_suffix: str
    login_hosts: tuple[str, ...]

    @property
    def vault_resource(self) -> str:
        """The audience of tokens for the vaults of this cloud."""
        return f"https://{self.vault_suffix}"

    def authority(self, tenant: str) -> str:
        """Where the challenge of a vault sends a client for a token."""
        return f"https://{self.login_hosts[0]}/{tenant}"


CLOUDS: tuple[Cloud, ...] = (
    Cloud(
        "AzurePublicCloud",
        "vault.azure.net",
        ("login.microsoftonline.com", "login.windows.net", "login.microsoft.com"),
    ),
    Cloud("AzureUSGovernmentCloud", "vault.usgovcloudapi.net", ("login.microsoftonline.us",)),
    Cloud(
        "AzureChinaCloud",
        "vault.azure.cn",
        ("login.chinacloudapi.cn", "login.partner.microsoftonline.cn"),
    ),
    Cloud("AzureGermanCloud", "vault.microsoftazure.de", ("login.microsoftonline.de",)),
    # A stand-in for Azure Stack, whose hosts a class names in its own environment file.
    Cloud("AzureStackCloud", "vault.local", ("login.local", "adfs.local")),
)


@dataclass(frozen=True, slots=True)
class VaultStation:
    """A vault, by its name in lower case."""

    cloud: Cloud
    vault: str


@dataclass(frozen=True, slots=True)
class LoginStation:
    """The token endpoint of a cloud, by the host that was asked for."""

    cloud: Cloud
    host: str


@dataclass(frozen=True, slots=True)
class UnknownStation:
    """A host that is none of ours."""

    host: str


Station = VaultStation | LoginStation | UnknownStation


def station_of(host_header: str) -> Station:
    """The station that a `Host` header means; its port does not matter."""
    host = bare_host(host_header)
    for cloud in CLOUDS:
        if host in cloud.login_hosts:
            return LoginStation(cloud, host)
        vault, dot, suffix = host.partition(".")
        if dot and vault and suffix == cloud.vault_suffix:
            return VaultStation(cloud, vault)
    return UnknownStation(host)


def bare_host(host_header: str) -> str:
    """The host that a `Host` header names, in lower case, without port and final dot."""
    host = host_header.rpartition(":")[0] if ":" in host_header else host_header
    return host.lower().rstrip(".")


def cloud_of_resource(resource: str) -> Cloud | None:
    """The cloud whose vaults `resource` means, with or without a slash at its end."""
    wanted = resource.removesuffix("/")
    return next((cloud for cloud in CLOUDS if cloud.vault_resource == wanted), None)


def certificate_names() -> tuple[str, ...]:
    """Every DNS name that the server certificate must cover."""
    names = ["localhost", "*.local"]
    for cloud in CLOUDS:
        names += [f"*.{cloud.vault_suffix}", *cloud.login_hosts]
    return tuple(names)
