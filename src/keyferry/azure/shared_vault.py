"""One Key Vault as one mount reads it: through the economy, which all mounts share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.economy.key import FetchKey

if TYPE_CHECKING:
    from keyferry.azure.contents import Content, ListedVersion
    from keyferry.azure.keyvault import KeyVault
    from keyferry.azure.objects import ObjectRef
    from keyferry.contract import Purpose
    from keyferry.economy.hub import Economy
    from keyferry.economy.key import WholeIdentity


class SharedVault:
    """Reads what nobody of the same identity holds or is already asking for.

    Every method raises as `keyferry.azure.keyvault` does.

    Args:
        vault: asks.
        economy: shares.
        identity: as whom `vault` asks.
        purpose: why.
    """

    def __init__(
        self, vault: KeyVault, economy: Economy, *, identity: WholeIdentity, purpose: Purpose
    ) -> None:
        self._vault = vault
        self._economy = economy
        self._identity = identity
        self._purpose = purpose

    async def read(self, ref: ObjectRef) -> Content:
        """Read one object."""
        return await self._economy.fetch(
            self._key("read", ref, ref.version),
            lambda errand: self._vault.read(ref, errand),
            purpose=self._purpose,
        )

    async def versions(self, ref: ObjectRef) -> tuple[ListedVersion, ...]:
        """All versions of an object, whatever `ref.version` says, in the order of the vault."""
        return await self._economy.fetch(
            self._key("list versions", ref),
            lambda errand: self._vault.versions(ref, errand),
            purpose=self._purpose,
        )

    def _key(self, verb: str, ref: ObjectRef, *rest: str) -> FetchKey:
        item = (verb, ref.type.value, ref.name, *rest)
        return FetchKey(self._vault.netloc, self._identity, item)
