"""Operations on a running Azure Key Vault, real or emulated, that a shared test suite needs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Protocol

from keyferry.providers.api import MountCall, MountResult
from keyferry.providers.azure.provider import AzureProvider
from keyferry.providers.known_fields.attributes import POD_NAME, POD_NAMESPACE


class KeyVaultPeer(Protocol):
    """A running Key Vault that grants all permissions to one identity."""

    provider: AzureProvider
    """A provider that is connected to the Key Vault."""
    parameters: Mapping[str, str]
    """The SecretProviderClass parameters that select the Key Vault and the identity."""
    reports_disabled: bool
    """Whether errors distinguish a disabled version from a missing one."""

    async def set_secret(self, name: str, value: str) -> str:
        """Store a new version, one second newer than the previous one; return its id."""

    async def create_key(self, name: str, kind: str, curve: str) -> str:
        """Create a new version of a key; return its id."""

    async def import_certificate(self, name: str, content: bytes, content_type: str) -> str:
        """Import a self-signed certificate from PEM or PKCS #12; return its id."""

    async def disable(self, collection: str, name: str, version: str) -> None:
        """Disable one version of a secret or a key."""

    async def delete(self, collection: str, name: str) -> None:
        """Delete an object."""


def entry(type_: str, name: str, **fields: str | int) -> str:
    """Return one item of `objects` as JSON."""
    return json.dumps({"objectType": type_, "objectName": name} | fields)


async def mount_entries(vault: KeyVaultPeer, *entries: str) -> MountResult:
    """Mount `entries` for a test pod."""
    pod = {POD_NAME: "web-0", POD_NAMESPACE: "shop"}
    objects = json.dumps({"array": entries})
    return await vault.provider.mount(MountCall({**pod, "objects": objects, **vault.parameters}))
