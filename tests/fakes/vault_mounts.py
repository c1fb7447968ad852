"""Mounts from a vault, requested like by the driver.

mounts = VaultMounts(vault)
result = await mounts.mount(entry("db", "secret/data/app/db", secretKey="password"))
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from keyferry.net.address_guard import AddressGuard
from keyferry.net.http_client import HttpsClient, HttpsSettings
from keyferry.providers.api import MountCall, MountResult
from keyferry.providers.known_fields.attributes import (
    POD_NAME,
    POD_NAMESPACE,
    POD_UID,
    SERVICE_ACCOUNT,
    SERVICE_ACCOUNT_TOKENS,
)
from keyferry.providers.restrictions import UNRESTRICTED, ClassRestrictions
from keyferry.providers.settings import VaultSettings
from keyferry.providers.vault.http.server import Server
from keyferry.providers.vault.params import parse_mount
from keyferry.providers.vault.product import VAULT, Product
from keyferry.providers.vault.provider import VaultProvider
from keyferry.records import replace
from keyferry.resilience.fetcher import Fetcher
from tests.fakes.clock import AutojumpClock
from tests.fakes.resilience import uncached_fetcher
from tests.fakes.vault_api import VaultApi
from tests.fakes.vault_auth import service_account_token


def entry(name: str, path: str, **fields: Any) -> dict[str, Any]:
    """Return one item of `objects`."""
    return {"objectName": name, "secretPath": path, **fields}


def tokens_json(**tokens: str) -> str:
    """Return the attribute in which kubelet sends tokens, from tokens by audience."""
    end = "2030-01-01T00:00:00Z"
    return json.dumps({k: {"token": v, "expirationTimestamp": end} for k, v in tokens.items()})


@dataclass(frozen=True)
class FakePod:
    """The pod of a mount."""

    __test__ = False

    name: str = "web-0"
    account: str = "shop/web"
    audience: str = "vault"

    def attributes(self, *, serial: int = 0) -> dict[str, str]:
        """The attributes that kubelet sends of the pod."""
        namespace, _, account = self.account.partition("/")
        token = service_account_token(self.account, self.audience, pod=self.name, serial=serial)
        return {
            POD_NAME: self.name,
            POD_NAMESPACE: namespace,
            POD_UID: f"uid-of-{self.name}",
            SERVICE_ACCOUNT: account,
            SERVICE_ACCOUNT_TOKENS: tokens_json(**{self.audience: token}),
        }

    @property
    def target(self) -> str:
        """The mount path of its volume."""
        return f"/pods/uid-of-{self.name}/volumes/v/mount"


@dataclass
class VaultMounts:
    """A provider, and the common parameters of its SecretProviderClasses."""

    vault: VaultApi
    provider: VaultProvider
    parameters: dict[str, str] = field(default_factory=dict)

    def call(
        self,
        *entries: dict[str, Any],
        pod: FakePod | None = None,
        serial: int = 0,
        **overrides: str,
    ) -> MountCall:
        """Return a mount call for these entries, without parameters that `overrides` set to ""."""
        pod = pod or FakePod()
        attributes = {
            "roleName": "app",
            **self.vault.parameters,
            **self.parameters,
            "objects": json.dumps(entries),
            **pod.attributes(serial=serial),
            **overrides,
        }
        given = {key: value for key, value in attributes.items() if value}
        return MountCall(given, target_path=pod.target)

    def server(self, **overrides: str) -> Server:
        """Return the vault that the SecretProviderClasses name."""
        call = self.call(entry("x", "y"), **overrides)  # type: ignore[arg-type]
        return (
            parse_mount(
                call.attributes,
                None,
                target_path="/t",
                product=VAULT,
                settings=VaultSettings(),
                restrictions=UNRESTRICTED,
            )
            .logins[0]
            .server
        )

    async def mount(
        self,
        *entries: dict[str, Any],
        pod: FakePod | None = None,
        secrets: dict[str, str] | None = None,
        serial: int = 0,
        **overrides: str,
    ) -> MountResult:
        """Mount these entries."""
        call = self.call(*entries, pod=pod, serial=serial, **overrides)
        return await self.provider.mount(replace(call, secrets=secrets))

    async def files(self, *entries: dict[str, Any], **fields: Any) -> dict[str, bytes]:
        """Mount these entries and return the contents by path."""
        result = await self.mount(*entries, **fields)
        return {file.path: file.contents for file in result.files}


class _VaultClock:
    """Implements `Clock` with the time of a vault."""

    def __init__(self, vault: VaultApi) -> None:
        self._vault = vault

    def monotonic(self) -> float:
        return self._vault.now

    def wall(self) -> datetime:
        return datetime.fromtimestamp(self._vault.wall, UTC)

    async def sleep(self, _: float) -> None:
        await asyncio.sleep(0.01)  # others must have their turn


@asynccontextmanager
async def vault_mounts(
    vault: VaultApi,
    *,
    product: Product = VAULT,
    settings: VaultSettings | None = None,
    clock: AutojumpClock | None = None,
    fetcher: Fetcher | None = None,
    restrictions: ClassRestrictions = UNRESTRICTED,
    https: HttpsSettings | None = None,
    **parts: Any,
) -> AsyncIterator[VaultMounts]:
    """Create mounts with a new provider, whose clock is the vault's; close it afterwards."""
    guarded = restrictions.checks_local_addresses
    clock = clock or AutojumpClock()
    provider = VaultProvider(
        product,
        HttpsClient(https or HttpsSettings(), guard=AddressGuard() if guarded else None),
        fetcher or uncached_fetcher(clock),
        settings or VaultSettings(),
        restrictions=restrictions,
        clock=_VaultClock(vault),
        **parts,
    )
    try:
        yield VaultMounts(vault, provider)
    finally:
        await provider.close()
