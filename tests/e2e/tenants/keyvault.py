"""An arena whose tenants have Key Vaults: the emulator, an application and a vault of each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import yaml

from keyferry_devvault.client import DevRedirect
from keyferry_devvault.request_log import RequestLog
from keyferry_devvault.storage.data import DevVaultData
from tests.e2e.node import Volume
from tests.e2e.tenants.arena import ATTACKER, VICTIM, VICTIM_VALUE, Arena, running_arena
from tests.fakes.devvault import DEFAULT_TENANT, DevVault

APP: Mapping[str, Mapping[str, str]] = {
    ATTACKER: {
        "clientid": "aaaaaaaa-0000-4000-8000-000000000001",
        "clientsecret": "secret-of-the-attacker",
    },
    VICTIM: {
        "clientid": "bbbbbbbb-0000-4000-8000-000000000001",
        "clientsecret": "secret-of-the-victim",
    },
}
"""The nodePublishSecretRef Secret of each tenant."""


class AzureArena(Arena):
    """An arena with Key Vaults.

    Attributes:
        keyvault: the emulator; it has the vaults `attacker` and `victim`.
    """

    keyvault: DevVault

    def driver_flags(self) -> list[str]:
        """Return the flags of `keyferry driver` for this node."""
        return [*super().driver_flags(), f"--dev-vault={self.keyvault.data.folder}"]

    def azure_volume(self) -> tuple[Volume, dict[str, bytes]]:
        """Return a volume of a new Pod of the victim, and its files."""
        volume = self.victim.pod("azure", secrets=APP[VICTIM])
        return volume, {"db": VICTIM_VALUE.encode()}


def azure_parameters(vault: str, *objects: Mapping[str, str], **more: str) -> dict[str, str]:
    """Return the parameters of a SecretProviderClass that reads from a Key Vault."""
    return {
        "keyvaultName": vault,
        "tenantID": DEFAULT_TENANT,
        "objects": yaml.safe_dump({"array": [yaml.safe_dump(dict(one)) for one in objects]}),
        **more,
    }


def object_of(name: str, **more: str) -> Mapping[str, str]:
    """Return an entry of `objects` for a secret."""
    return {"objectName": name, "objectType": "secret", **more}


@asynccontextmanager
async def running_keyvault(folder: Path, show: Callable[[str], None]) -> AsyncIterator[AzureArena]:
    """Run an arena whose tenants have Key Vaults."""
    data_folder = folder / "devvault"
    async with running_arena(folder, show, AzureArena) as arena:
        with DevVaultData(data_folder) as data:
            child = arena.children.start(
                "keyvault", "keyferry", "devvault", "run", "--data", str(data_folder), "--quiet"
            )
            await child.says("listens")
            vault = DevVault(data, RequestLog(), DevRedirect.read(data_folder))
            for tenant, app in APP.items():
                vault.set_secret(tenant, "db", VICTIM_VALUE)
                vault.add_app(app["clientid"], secret=app["clientsecret"])
                vault.grant(tenant, app["clientid"])
            arena.keyvault = vault
            arena.victim.put_class(
                "azure", provider="azure", parameters=azure_parameters(VICTIM, object_of("db"))
            )
            yield arena
