"""One Key Vault as one mount reads it: through the economy, which all mounts share."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, assert_never

from keyferry.azure.contents import Content, LeafCertificate, PublicKey, Secret
from keyferry.azure.proof import DatedContent
from keyferry.azure.proofs import READ, VaultList
from keyferry.economy.key import FetchKey

if TYPE_CHECKING:
    from collections.abc import Callable

    from keyferry.azure.contents import ListedVersion
    from keyferry.azure.keyvault import KeyVault
    from keyferry.azure.objects import ObjectRef
    from keyferry.contract import MountCall
    from keyferry.economy.errand import Errand
    from keyferry.economy.hub import Economy
    from keyferry.economy.key import WholeIdentity
    from keyferry.economy.proofs import Proofs

_OBJECT_BYTES = 1024
"""What Python takes for an answer beside the content itself, roughly."""


class SharedVault:
    """Reads what nobody of the same identity holds or is already asking for.

    Every method raises as `keyferry.azure.keyvault` does.

    Args:
        vault: asks.
        economy: shares.
        identity: as whom `vault` asks.
        call: for which mount, and why.
        proofs: prove that nothing has changed; None: nobody asks for that.
        wall: seconds since 1970.

    Attributes:
        oldest: when the oldest of what was read was asked for, in seconds since 1970.
    """

    def __init__(
        self,
        vault: KeyVault,
        economy: Economy,
        *,
        identity: WholeIdentity,
        call: MountCall,
        proofs: Proofs | None,
        wall: Callable[[], float],
    ) -> None:
        self._vault = vault
        self._economy = economy
        self._identity = identity
        self._purpose = call.purpose
        self._volume = call.target_path
        self._proofs = proofs
        self._wall = wall
        self._used: set[FetchKey] = set()
        self.oldest = wall()

    async def read(self, ref: ObjectRef) -> Content:
        """Read one object."""
        key = self._key(READ, ref, ref.version)
        self._used.add(key)
        # A list tells of current versions only.
        proof = None if self._proofs is None or ref.version else self._has_not_changed
        dated: DatedContent = await self._economy.fetch(
            key,
            partial(self._read, ref),
            purpose=self._purpose,
            weigh=lambda held: weigh(held.content),
            unchanged=proof and partial(proof, VaultList(self._vault, key, ref.type)),
            volume=self._volume,
        )
        self.oldest = min(self.oldest, dated.asked)
        return dated.content

    async def versions(self, ref: ObjectRef) -> tuple[ListedVersion, ...]:
        """All versions of an object, whatever `ref.version` says, in the order of the vault."""
        key = self._key("list versions", ref)
        self._used.add(key)
        return await self._economy.fetch(
            key,
            lambda errand: self._vault.versions(ref, errand),
            purpose=self._purpose,
            weigh=lambda listed: _OBJECT_BYTES * (1 + len(listed)),
            volume=self._volume,
        )

    def settle(self) -> None:
        """The volume holds what was read; what it held besides, it uses no more."""
        self._economy.settle(self._volume, self._used)

    async def _read(self, ref: ObjectRef, errand: Errand) -> DatedContent:
        asked = self._wall()
        return DatedContent(await self._vault.read(ref, errand), asked)

    async def _has_not_changed(self, collection: VaultList, _: DatedContent, __: Errand) -> bool:
        assert self._proofs is not None
        return await self._proofs.has_not_changed(collection)

    def _key(self, verb: str, ref: ObjectRef, *rest: str) -> FetchKey:
        item = (verb, ref.type.value, ref.name, *rest)
        return FetchKey(self._vault.netloc, self._identity, item)


def weigh(content: Content) -> int:
    """About how many bytes of memory a content takes."""
    match content:
        case Secret():
            # A text with a character beyond Latin takes up to four bytes for each.
            return _OBJECT_BYTES + 4 * len(content.value)
        case PublicKey():
            return _OBJECT_BYTES + sum(map(len, content.numbers.values()))
        case LeafCertificate():
            return _OBJECT_BYTES + len(content.cer)
        case _:
            assert_never(content)
