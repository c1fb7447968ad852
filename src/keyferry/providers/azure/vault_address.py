"""Where a vault is: by its name in a cloud, or by a whole URL, an extension of ours. [pure]

A URL serves managed HSMs, private endpoints with a name of their own, and vaults on loopback. A
token goes to hosts of the cloud and to this machine only.

Source: docs/reference/upstream-azure-provider.md#secretproviderclass-parameters
Source: docs/reference/upstream-azure-provider.md#clouds
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from keyferry.errors import ClassInvalidError, excerpt

if TYPE_CHECKING:
    from keyferry.providers.azure.clouds import AzureCloud

_VAULT_URL = re.compile(r"https://([0-9A-Za-z.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?/?")
_VAULT_URL_REMEDY = "Write it as https://NAME.managedhsm.azure.net, without path, user or query."


@dataclass(frozen=True, slots=True)
class VaultAddress:
    """Which vault a class means.

    Attributes:
        name: how messages call it.
        netloc: host, with a port where the class gives one; "" is the host that the cloud has for
            this name.
    """

    name: str
    netloc: str = ""

    def netloc_in(self, cloud: AzureCloud) -> str:
        """Its host, with a port where the class gives one.

        Raises:
            ClassInvalidError: the URL leads neither to a host of this cloud nor to this machine.
        """
        if not self.netloc:
            return cloud.vault_host(self.name)
        host = urlsplit(f"https://{self.netloc}").hostname or ""
        if cloud.is_vault_host(host) or _is_loopback(host):
            return self.netloc
        raise ClassInvalidError(
            f"failed to get vault: keyvaultURL leads to {excerpt(host)}, which is no host of "
            f"{cloud.name}; it would receive a token",
            "Use a host of the cloud; set cloudName when the vault is in another one.",
        )


def parse_vault_address(name: str, url: str) -> VaultAddress:
    """The vault that the parameters `keyvaultName` and `keyvaultURL` mean.

    Raises:
        ClassInvalidError: both are given, or the one that is given is malformed.
    """
    if name and url:
        raise ClassInvalidError(
            "keyvaultName and keyvaultURL are both set", "Leave one of them out."
        )
    if not url:
        return VaultAddress(_check_vault_name(name))
    found = _VAULT_URL.fullmatch(url)
    if found is None or int((found[2] or ":443")[1:]) not in range(1, 1 << 16):
        raise ClassInvalidError(
            "failed to get vault: keyvaultURL is not an https URL", _VAULT_URL_REMEDY
        )
    host = found[1].casefold()
    label, _, domain = host.partition(".")
    # An address has no first label that could be a name.
    is_name = bool(domain) and not domain.replace(".", "").isdigit() and not host.startswith("[")
    return VaultAddress(label if is_name else host, host + (found[2] or ""))


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _check_vault_name(name: str) -> str:
    problem = f'failed to get vault: Invalid vault name: "{excerpt(name)}"'
    remedy = "Give the bare name, without a domain."
    if not 3 <= len(name) <= 24:
        raise ClassInvalidError(f"{problem}, must be between 3 and 24 chars", remedy)
    if not re.fullmatch(r"[-A-Za-z0-9]+", name):
        raise ClassInvalidError(f"{problem}, must match [-a-zA-Z0-9]{{3,24}}", remedy)
    return name
