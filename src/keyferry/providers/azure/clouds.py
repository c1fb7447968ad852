"""The Azure clouds: the domains of their vaults and their token endpoints. [pure]

AzureStackCloud has no fixed values: a JSON file that the SecretProviderClass names describes it.
`cloud_file` reads that file.

Source: docs/reference/upstream-azure-provider.md#clouds
"""

from __future__ import annotations

from msgspec import Struct

from keyferry.errors import ClassInvalidError, SettingInvalidError, excerpt

AZURE_STACK_CLOUD = "AzureStackCloud"


class AzureCloud(Struct, frozen=True):
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
        if self.hsm_suffix and is_in_domain(host.casefold(), self.hsm_suffix):
            return f"https://{self.hsm_suffix}"
        return self.vault_resource

    def is_vault_host(self, host: str) -> bool:
        """Return whether `host` is in a domain of this cloud's vaults or managed HSMs."""
        suffixes = (self.vault_suffix, self.hsm_suffix, self.private_suffix)
        return any(suffix and host.casefold().endswith(f".{suffix}") for suffix in suffixes)


class EnvironmentFile(Struct, frozen=True):
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


def is_in_domain(host: str, domain: str) -> bool:
    """Return whether `host` is `domain` or a subdomain of it."""
    return host == domain or host.endswith(f".{domain}")
