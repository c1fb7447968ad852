"""The Azure clouds: the domains of their vaults and their token endpoints. [pure]

AzureStackCloud has no fixed values: a JSON file that the SecretProviderClass names describes it.
`cloud_file` reads that file, and `parse_environment` parses it.

Source: docs/reference/upstream-azure-provider.md#clouds
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec

from keyferry.errors import ClassInvalidError, SettingInvalidError, excerpt
from keyferry.formats.unknown_fields import correct_missing, limited
from keyferry.providers.known_fields.azure import CLOUD_FILE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keyferry.formats.unknown_fields import UnknownField

AZURE_STACK_CLOUD = "AzureStackCloud"


@dataclass(frozen=True, slots=True)
class AzureCloud:
    """An Azure cloud.

    Attributes:
        name: the value of `cloudName`, which is not case-sensitive.
        vault_suffix: the domain of vaults.
        vault_resource: the resource of tokens for vaults, without a trailing slash.
        authority: the https URL of the token endpoint's host, without a trailing slash.
        hsm_suffix: the domain of managed HSMs; "" for none.
        private_suffix: the domain of private endpoints; "" for none.
        from_class: whether a file that a SecretProviderClass names describes it.
    """

    name: str
    vault_suffix: str
    vault_resource: str
    authority: str
    hsm_suffix: str = ""
    private_suffix: str = ""
    from_class: bool = False

    def vault_host(self, vault: str) -> str:
        """Return the host name of the vault with the name `vault`."""
        return f"{vault}.{self.vault_suffix}"

    def token_resource(self, host: str) -> str:
        """Return the resource of tokens for the vault at `host`.

        Managed HSMs have their own. Any other host counts as a vault, until its challenge names
        another resource.
        """
        if self.hsm_suffix and _is_in_domain(host.casefold(), self.hsm_suffix):
            return f"https://{self.hsm_suffix}"
        return self.vault_resource

    def is_vault_host(self, host: str) -> bool:
        """Return whether `host` is in a domain of this cloud's vaults or managed HSMs."""
        suffixes = (self.vault_suffix, self.hsm_suffix, self.private_suffix)
        return any(suffix and host.casefold().endswith(f".{suffix}") for suffix in suffixes)


@dataclass(frozen=True, slots=True)
class EnvironmentFile:
    """A cloud that is described by the file `path`: AzureStackCloud."""

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
    """Return the cloud with the name `name`; the public cloud if the name is empty.

    Args:
        name: the parameter `cloudName`.
        environment_file: the parameter `cloudEnvFileName`, used only by AzureStackCloud.

    Raises:
        ClassInvalidError: the name is unknown, or AzureStackCloud lacks its file.
    """
    if not name:
        return CLOUDS[0]
    if name.casefold() == AZURE_STACK_CLOUD.casefold():
        if environment_file:
            return EnvironmentFile(environment_file)
        raise ClassInvalidError(
            f"cloudName {name} is not valid, error: cloudEnvFileName is not set",
            "Set cloudEnvFileName to the JSON file that describes this cloud.",
        )
    for cloud in CLOUDS:
        if cloud.name.casefold() == name.casefold():
            return cloud
    known = ", ".join([*(cloud.name for cloud in CLOUDS), AZURE_STACK_CLOUD])
    raise ClassInvalidError(
        f"cloudName {excerpt(name)} is not valid, error: there is no cloud environment matching "
        "the name",
        f"Set it to one of {known}, or leave it empty for {CLOUDS[0].name}.",
    )


def check_default_cloud(name: str) -> None:
    """Check the value of --cloud-name when the process starts.

    Raises:
        SettingInvalidError: there is no cloud with the name `name`.
    """
    try:
        find_cloud(name, "the file of the SecretProviderClass")
    except ClassInvalidError as error:
        raise SettingInvalidError(f"--cloud-name: {error.problem}", error.remedy) from None


class _EnvironmentDocument(msgspec.Struct, rename="camel"):
    active_directory_endpoint: str
    key_vault_endpoint: str
    key_vault_dns_suffix: str = msgspec.field(name="keyVaultDNSSuffix")
    name: str = AZURE_STACK_CLOUD


class UnreadableEnvironmentError(ValueError):
    """The content of an environment file is not JSON of that shape."""


def parse_environment(content: bytes, *, path: str) -> AzureCloud:
    """Parse the content of the environment file `path`. The case of keys does not matter, as in Go.

    Raises:
        UnreadableEnvironmentError: it is not JSON of that shape.
        ClassInvalidError: its values contradict each other. The message quotes nothing of it.
    """
    fields = _environment_fields(content)
    try:
        document = msgspec.json.decode(msgspec.json.encode(fields), type=_EnvironmentDocument)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise UnreadableEnvironmentError(
            f"it is not a JSON object with the keys of a cloud{_misspelled_key(fields)}"
        ) from None
    cloud = AzureCloud(
        document.name,
        document.key_vault_dns_suffix.strip(". "),
        document.key_vault_endpoint.strip().rstrip("/"),
        document.active_directory_endpoint.strip().rstrip("/"),
        from_class=True,
    )
    if not _is_https(cloud.authority):
        raise _environment_error(path, "activeDirectoryEndpoint is not an https URL")
    if not _is_https(cloud.vault_resource):
        raise _environment_error(path, "keyVaultEndpoint is not an https URL")
    # Send a token only to hosts of the resource that it is for.
    resource = urlsplit(cloud.vault_resource).hostname or ""
    if not re.fullmatch(r"[A-Za-z0-9.-]+", cloud.vault_suffix) or not _is_in_domain(
        cloud.vault_suffix.casefold(), resource
    ):
        raise _environment_error(
            path, "keyVaultDNSSuffix is not the host of keyVaultEndpoint or a subdomain of it"
        )
    return cloud


def misspelled_environment_keys(content: bytes) -> tuple[UnknownField, ...]:
    """Return the keys of an environment file that resemble those of a cloud.

    Raises:
        UnreadableEnvironmentError: it is not a JSON object.
    """
    return limited(CLOUD_FILE.find_misspelled("", _environment_fields(content)))


def _environment_fields(content: bytes) -> dict[str, msgspec.Raw]:
    try:
        document = msgspec.json.decode(content, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise UnreadableEnvironmentError("it is not a JSON object") from None
    names = {name.casefold(): name for name in CLOUD_FILE.known}
    fields = {names.get(key.casefold(), key): value for key, value in document.items()}
    return fields | {key: value for key, value in document.items() if key in CLOUD_FILE.known}


def _misspelled_key(fields: Mapping[str, object]) -> str:
    for name in ("activeDirectoryEndpoint", "keyVaultEndpoint", "keyVaultDNSSuffix"):
        if name not in fields:
            return correct_missing(CLOUD_FILE, (name,), fields, "")[0]
    return ""


def _is_https(url: str) -> bool:
    return (
        re.fullmatch(r"https://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._/-]*)?", url) is not None
    )


def _is_in_domain(host: str, domain: str) -> bool:
    return host == domain or host.endswith(f".{domain}")


def _environment_error(path: str, reason: str) -> ClassInvalidError:
    return ClassInvalidError(
        f"cloudName {AZURE_STACK_CLOUD} is not valid, error: {excerpt(path)}: {reason}",
        "Set activeDirectoryEndpoint, keyVaultEndpoint and keyVaultDNSSuffix in the file.",
    )
