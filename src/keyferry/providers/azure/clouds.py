"""The clouds of Azure: where vaults live and who issues their tokens. [pure]

One cloud has no fixed place: AzureStackCloud is described by a JSON file that the class names;
whoever reads that file hands its bytes to `parse_environment`.

Source: docs/reference/upstream-azure-provider.md#clouds
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

import msgspec

from keyferry.errors import ClassInvalidError, PlatformError, Stage, excerpt

AZURE_STACK_CLOUD = "AzureStackCloud"


@dataclass(frozen=True, slots=True)
class AzureCloud:
    """One cloud.

    Attributes:
        name: as classes write it; upper and lower case are the same there.
        vault_suffix: what follows the vault's name and a dot in its host name.
        vault_resource: the resource that tokens for vaults are asked for, without a trailing slash.
        authority: the https URL of the token endpoint's host, without a trailing slash.
        hsm_suffix: what follows the name of a managed HSM in its host name; "" for none.
        private_suffix: what the names of private endpoints may end with instead; "" for none.
    """

    name: str
    vault_suffix: str
    vault_resource: str
    authority: str
    hsm_suffix: str = ""
    private_suffix: str = ""

    def vault_host(self, vault: str) -> str:
        """The host name of the vault called `vault`."""
        return f"{vault}.{self.vault_suffix}"

    def token_resource(self, host: str) -> str:
        """The resource that tokens for the vault at `host` are asked for.

        A managed HSM has its own; every other host is a vault's until its challenge says more.
        """
        if self.hsm_suffix and _is_in_domain(host.casefold(), self.hsm_suffix):
            return f"https://{self.hsm_suffix}"
        return self.vault_resource

    def is_vault_host(self, host: str) -> bool:
        """Whether `host` is that of a vault or managed HSM of this cloud, private or not."""
        suffixes = (self.vault_suffix, self.hsm_suffix, self.private_suffix)
        return any(suffix and host.casefold().endswith(f".{suffix}") for suffix in suffixes)


@dataclass(frozen=True, slots=True)
class EnvironmentFile:
    """A cloud that stands in a file: AzureStackCloud."""

    path: str


CLOUDS = (
    AzureCloud(
        "AzurePublicCloud",
        "vault.azure.net",
        "https://vault.azure.net",
        "https://login.microsoftonline.com",
        "managedhsm.azure.net",
        "vaultcore.azure.net",
    ),
    AzureCloud(
        "AzureUSGovernmentCloud",
        "vault.usgovcloudapi.net",
        "https://vault.usgovcloudapi.net",
        "https://login.microsoftonline.us",
        "managedhsm.usgovcloudapi.net",
        "vaultcore.usgovcloudapi.net",
    ),
    AzureCloud(
        "AzureChinaCloud",
        "vault.azure.cn",
        "https://vault.azure.cn",
        "https://login.chinacloudapi.cn",
        "managedhsm.azure.cn",
        "vaultcore.azure.cn",
    ),
    AzureCloud(
        "AzureGermanCloud",
        "vault.microsoftazure.de",
        "https://vault.microsoftazure.de",
        "https://login.microsoftonline.de",
        "managedhsm.microsoftazure.de",
        "vaultcore.microsoftazure.de",
    ),
)


def find_cloud(name: str, environment_file: str) -> AzureCloud | EnvironmentFile:
    """The cloud called `name`; the public one when the name is empty.

    Args:
        name: the parameter `cloudName`.
        environment_file: the parameter `cloudEnvFileName`, which only AzureStackCloud reads.

    Raises:
        ClassInvalidError: there is no such cloud, or AzureStackCloud comes without its file.
    """
    if not name:
        return CLOUDS[0]
    if name.casefold() == AZURE_STACK_CLOUD.casefold():
        if environment_file:
            return EnvironmentFile(environment_file)
        raise ClassInvalidError(
            f"cloudName {name} is not valid, error: cloudEnvFileName is not set",
            "Name the JSON file that describes this cloud in cloudEnvFileName.",
        )
    for cloud in CLOUDS:
        if cloud.name.casefold() == name.casefold():
            return cloud
    known = ", ".join([*(cloud.name for cloud in CLOUDS), AZURE_STACK_CLOUD])
    raise ClassInvalidError(
        f"cloudName {excerpt(name)} is not valid, error: there is no cloud environment so named",
        f"Use one of {known}, or leave it empty for {CLOUDS[0].name}.",
    )


def check_default_cloud(name: str) -> None:
    """Make sure, when the process starts, that classes without a cloud have one.

    Raises:
        PlatformError: there is no cloud called `name`.
    """
    try:
        find_cloud(name, "the file of the class")
    except ClassInvalidError as error:
        raise PlatformError(
            f"--cloud-name: {error.problem}", error.remedy, stage=Stage.REQUEST
        ) from None


class _EnvironmentDocument(msgspec.Struct, rename="camel"):
    active_directory_endpoint: str
    key_vault_endpoint: str
    key_vault_dns_suffix: str = msgspec.field(name="keyVaultDNSSuffix")
    name: str = AZURE_STACK_CLOUD


def parse_environment(content: bytes, *, path: str) -> AzureCloud:
    """The cloud that the file `path` describes.

    Raises:
        ClassInvalidError: not JSON of that shape, or its parts do not fit together. Nothing of the
            content is repeated, because the class may name any file of the node.
    """
    try:
        document = msgspec.json.decode(content, type=_EnvironmentDocument)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise _environment_error(path, "it is not a JSON object with the keys of a cloud") from None
    cloud = AzureCloud(
        document.name,
        document.key_vault_dns_suffix.strip(". "),
        document.key_vault_endpoint.strip().rstrip("/"),
        document.active_directory_endpoint.strip().rstrip("/"),
    )
    if not _is_https(cloud.authority):
        raise _environment_error(path, "activeDirectoryEndpoint is not an https URL")
    if not _is_https(cloud.vault_resource):
        raise _environment_error(path, "keyVaultEndpoint is not an https URL")
    # A token must only go to hosts of the resource that it is for.
    resource = urlsplit(cloud.vault_resource).hostname or ""
    if not re.fullmatch(r"[A-Za-z0-9.-]+", cloud.vault_suffix) or not _is_in_domain(
        cloud.vault_suffix.casefold(), resource
    ):
        raise _environment_error(
            path, "keyVaultDNSSuffix does not lie within the host of keyVaultEndpoint"
        )
    return cloud


def _is_https(url: str) -> bool:
    return (
        re.fullmatch(r"https://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._/-]*)?", url) is not None
    )


def _is_in_domain(host: str, domain: str) -> bool:
    return host == domain or host.endswith(f".{domain}")


def _environment_error(path: str, reason: str) -> ClassInvalidError:
    return ClassInvalidError(
        f"cloudName {AZURE_STACK_CLOUD} is not valid, error: {excerpt(path)}: {reason}",
        "The file needs activeDirectoryEndpoint, keyVaultEndpoint and keyVaultDNSSuffix.",
    )
