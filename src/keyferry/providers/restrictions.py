"""What SecretProviderClasses and pods may name on the node and in its network. [pure]

Users who may create pods in one namespace choose these names, so the administrator sets the limits.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from msgspec import Struct

from keyferry.errors import ClassInvalidError, excerpt
from keyferry.net.addresses import is_listed

if TYPE_CHECKING:
    from keyferry.net.addresses import AddressPattern

CLASS_FILE_FOLDERS = (
    "/etc/keyferry",
    "/etc/ssl/certs",
    "/etc/pki/ca-trust",
    "/etc/pki/tls/certs",
    "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates",
)
"""Default folders of files that SecretProviderClasses name: those of CA certificates."""
KUBELET_FOLDER = "/var/lib/kubelet"
_TARGET_PATH = re.compile(r"(?P<root>/.*?)?/pods/[^/]+/volumes?/.*")


class ClassRestrictions(Struct, frozen=True):
    """What SecretProviderClasses and attributes of pods may name."""

    file_folders: tuple[str, ...] = CLASS_FILE_FOLDERS
    """Folders of the files that they may name; those of kubelet are never permitted."""
    kubelet_folder: str = KUBELET_FOLDER
    """Folder of kubelet, whose files they may never name; nor those of /var/lib/kubelet."""
    unix_sockets: bool = False
    """Whether they may name a Unix socket as the address of a vault."""
    local_addresses: bool = False
    """Whether they may name addresses of this node, loopback and link-local addresses."""
    vault_addresses: tuple[AddressPattern, ...] = ()
    """The only addresses that they may name; none to permit all that are not local."""
    any_redirect: bool = False
    """Whether a vault may redirect to any host."""
    azure_tenants: tuple[str, ...] = ()
    """The only Entra tenants that they may name, in lower case; none to permit all."""
    node_addresses: tuple[str, ...] = ()
    """Addresses of this node that no interface of this process has."""

    @property
    def checks_local_addresses(self) -> bool:
        """Whether a connection to an address of this node is to be refused."""
        return not self.local_addresses and not self.vault_addresses

    def permits_address(self, host: str, port: int) -> bool:
        """Return whether the list of permitted addresses permits `host:port`."""
        return not self.vault_addresses or is_listed(self.vault_addresses, host, port)

    def check_tenant(self, tenant: str, *, subject: str) -> None:
        """Check an Entra tenant.

        Args:
            tenant: the tenant.
            subject: who names the tenant, for the message: "tenantId is".

        Raises:
            ClassInvalidError: it is not in the list of permitted tenants.
        """
        if self.azure_tenants and tenant.casefold() not in self.azure_tenants:
            raise ClassInvalidError(
                f"{subject} {excerpt(tenant)}, which is not permitted",
                "Use a permitted tenant, or ask the administrator to add it to "
                "--azure-allowed-tenants.",
            )


DEFAULT_RESTRICTIONS = ClassRestrictions()
UNRESTRICTED = ClassRestrictions(
    file_folders=("/",), unix_sockets=True, local_addresses=True, any_redirect=True
)
"""For commands whose user writes the SecretProviderClass."""


def kubelet_folder(target_path: str) -> str:
    """Return the folder of kubelet that contains a volume; "" if the path is not kubelet's.

    Args:
        target_path: mount path of the volume.
    """
    match = _TARGET_PATH.fullmatch(target_path)
    if match is None:
        return ""
    root = match["root"] or ""
    return root if root.endswith("/kubelet") else f"{root}/pods"
