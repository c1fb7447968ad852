"""Parses the address of a vault: its name in a cloud, or a URL (Keyferry extension). [pure]

A URL is for managed HSMs, private endpoints with names of their own, and vaults on loopback. Tokens
are sent only to hosts of the cloud and to this machine.

Source: docs/reference/upstream-azure-provider.md#secretproviderclass-parameters
Source: docs/reference/upstream-azure-provider.md#clouds
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from msgspec import Struct

from keyferry.errors import ClassInvalidError, excerpt, with_upstream_prefix

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from keyferry.providers.azure.clouds import AzureCloud

_VAULT_URL = re.compile(r"https://([0-9A-Za-z.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?/?")
_VAULT_URL_REMEDY = "Write it as https://NAME.managedhsm.azure.net, without path, user or query."


class VaultAddress(Struct, frozen=True):
    """The address of a vault.

    Attributes:
        name: its name in messages.
        netloc: its host, with a port if the URL has one; "" means the host of this name in the
            cloud.
    """

    name: str
    netloc: str = ""

    def netloc_in(self, cloud: AzureCloud) -> str:
        """Return the host in `cloud`, with a port if the URL has one.

        Raises:
            ClassInvalidError: the URL is neither a host of this cloud nor of this machine.
        """
        if not self.netloc:
            return cloud.vault_host(self.name)
        host = urlsplit(f"https://{self.netloc}").hostname or ""
        if cloud.is_vault_host(host) or _is_loopback(host):
            return self.netloc
        raise _invalid(
            f"keyvaultURL points to {excerpt(host)}, which is not a host of "
            f"{cloud.name} and must not receive a token",
            "Use a host of this cloud, or set cloudName to the cloud of the vault.",
        )


def parse_vault_address(name: str, url: str) -> VaultAddress:
    """Parse the parameters `keyvaultName` and `keyvaultURL`, of which one is set.

    Raises:
        ClassInvalidError: both are set, or the one that is set is malformed.
    """
    if name and url:
        raise ClassInvalidError("keyvaultName and keyvaultURL are both set", "Remove one of them.")
    if not url:
        return VaultAddress(_check_vault_name(name))
    match = _VAULT_URL.fullmatch(url)
    if match is None or int((match[2] or ":443")[1:]) not in range(1, 1 << 16):
        raise _invalid("keyvaultURL is not an https URL", _VAULT_URL_REMEDY)
    host = match[1].casefold()
    label, _, domain = host.partition(".")
    # An IP address has no label that could be the name of a vault.
    is_name = bool(domain) and not domain.replace(".", "").isdigit() and not host.startswith("[")
    return VaultAddress(label if is_name else host, host + (match[2] or ""))


def vault_label(name: str, url: str) -> str:
    """Return what distinguishes a vault from others of a SecretProviderClass, in IDs and messages.

    Args:
        name: `keyvaultName`; "" if it is not set.
        url: `keyvaultURL`; "" if it is not set.

    Returns:
        The name of the vault; for a URL of another host, such as that of a managed HSM, the host.
        "" if neither is set, or the URL is malformed.
    """
    if not url:
        return name
    try:
        address = parse_vault_address("", url)
    except ClassInvalidError:
        return ""
    is_vault = address.netloc.startswith(f"{address.name}.vault") and ":" not in address.netloc
    return address.name if is_vault else address.netloc


_TENANT = re.compile(r"[0-9A-Za-z.-]+")


def check_tenant_syntax(tenant: str) -> str:
    """Return `tenant`.

    Raises:
        ClassInvalidError: it is neither an ID nor a domain name.
    """
    if not _TENANT.fullmatch(tenant):
        problem = "failed to get keyvault client: tenantId is neither an ID nor a domain name"
        raise ClassInvalidError(
            problem, "Set it to the output of: az account show --query tenantId."
        )
    return tenant


@dataclass(frozen=True, slots=True)
class EntryVault:
    """The vault and identity that an entry of `objects` names (Keyferry extension).

    What is "" is inherited from the SecretProviderClass.

    Attributes:
        name: `keyvaultName`.
        url: `keyvaultURL`.
        tenant: `tenantID`.
        client_id: `clientID`.
        location: the place of the entry, for messages.
    """

    name: str = ""
    url: str = ""
    tenant: str = ""
    client_id: str = ""
    location: str = field(default="", compare=False)

    @property
    def is_inherited(self) -> bool:
        """Whether the entry names nothing."""
        return not (self.name or self.url or self.tenant or self.client_id)


INHERITED = EntryVault()


def class_vault_label(parameters: Mapping[str, str]) -> str:
    """Return the label of the vault of a SecretProviderClass; see `vault_label`."""
    get = parameters.get
    return vault_label(get("keyvaultName", "").strip(), get("keyvaultURL", "").strip())


def vault_labels(entry_vaults: Sequence[EntryVault], class_vault: str) -> tuple[str, ...]:
    """Return the label of the vault of each entry; nothing if all entries have the same vault.

    Args:
        entry_vaults: the vaults that the entries name.
        class_vault: the label of the vault of entries that name none.
    """
    if all(each.is_inherited for each in entry_vaults):
        return ()
    labels = tuple(vault_label(each.name, each.url) or class_vault for each in entry_vaults)
    return labels if len({label.casefold() for label in labels}) > 1 else ()


def parse_entry_vault(
    *, name: str, url: str, tenant: str, client_id: str, location: str
) -> EntryVault:
    """Return the vault and identity that an entry of `objects` names.

    Raises:
        ClassInvalidError: a field is malformed, or two contradict each other.
    """
    if name or url:
        parse_vault_address(name, url)
    if tenant:
        check_tenant_syntax(tenant)
    return EntryVault(name, url, tenant, client_id, location)


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _vault_name_remedy(name: str) -> str:
    if "." in name or "/" in name:
        host = name.partition("://")[2] or name
        label = host.partition("/")[0].partition(".")[0]
        example = f": {label}" if _VAULT_NAME.fullmatch(label) else ""
        return f"Set keyvaultName to the name of the vault, without https:// and domain{example}."
    others = "".join(dict.fromkeys(_NOT_IN_VAULT_NAMES.findall(name)))
    if others:
        return (
            f"Remove '{excerpt(others)}': the name of a vault has only letters, digits and hyphens."
        )
    return "Set keyvaultName to the name of the vault, which has 3 to 24 characters."


_VAULT_NAME = re.compile(r"[-A-Za-z0-9]{3,24}")
_NOT_IN_VAULT_NAMES = re.compile(r"[^-A-Za-z0-9]")


def _check_vault_name(name: str) -> str:
    problem = f'Invalid vault name: "{excerpt(name)}"'
    remedy = _vault_name_remedy(name)
    if not 3 <= len(name) <= 24:
        raise _invalid(f"{problem}, must be between 3 and 24 chars", remedy)
    if not re.fullmatch(r"[-A-Za-z0-9]+", name):
        raise _invalid(f"{problem}, must match [-a-zA-Z0-9]{{3,24}}", remedy)
    return name


def _invalid(problem: str, remedy: str) -> ClassInvalidError:
    return with_upstream_prefix("failed to get vault", ClassInvalidError(problem, remedy))
