"""One mount from Azure Key Vault: parse, get a token, fetch, render. All of it or nothing."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, assert_never
from urllib.parse import urlsplit

from keyferry import __version__
from keyferry.azure.cloud_file import read_environment
from keyferry.azure.clouds import Cloud, EnvironmentFile, check_default_cloud
from keyferry.azure.delivery import deliver, is_quick
from keyferry.azure.fetch import fetch
from keyferry.azure.fetch_plan import ask_of
from keyferry.azure.identity import Credentials, Login
from keyferry.azure.keyvault import KeyVault
from keyferry.azure.options import bundle_options
from keyferry.azure.params import AzureMount, parse_mount
from keyferry.azure.shared_vault import SharedVault
from keyferry.azure.vault_refusals import Asked
from keyferry.contract import API_VERSION, MountResult, ProviderVersion
from keyferry.economy.proofs import Proofs
from keyferry.errors import KeyferryError
from keyferry.failures import within
from keyferry.https import HttpsClient
from keyferry.logs import get_logger
from keyferry.provider_settings import ProviderSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from keyferry.contract import MountCall, Provider
    from keyferry.economy.hub import Economy
    from keyferry.expiry import Ending
    from keyferry.provider_parts import ProviderParts

_log = get_logger("azure")


def build_provider(parts: ProviderParts) -> Provider:
    """The provider for `spec.provider: azure`.

    Raises:
        PlatformError: a setting cannot be carried out.
    """
    check_default_cloud(parts.settings.cloud_name)
    return AzureProvider(HttpsClient(parts.https), parts.economy, parts.settings)


class AzureProvider:
    """Delivers secrets from Azure Key Vault.

    Args:
        https: its connections; closed with it.
        economy: spares the vaults.
        settings: what it was told.
        wall: seconds since 1970.
    """

    def __init__(
        self,
        https: HttpsClient,
        economy: Economy,
        settings: ProviderSettings | None = None,
        *,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._https = https
        self._economy = economy
        self._settings = settings or ProviderSettings()
        self._wall = wall
        self._credentials = Credentials(https, economy, self._settings)
        self._proofs = Proofs(economy) if economy.proves else None

    async def mount(self, call: MountCall) -> MountResult:
        """Fetch everything that `call` asks for, or raise a `KeyferryError`."""
        try:
            return await self._mount(call)
        except KeyferryError as error:
            raise within("failed to mount objects, error", error) from error.__cause__

    async def version(self) -> ProviderVersion:
        """Tell the protocol and the product version."""
        name = "secrets-store-csi-driver-provider-azure"
        return ProviderVersion(API_VERSION, name, __version__)

    def restore(self) -> frozenset[str]:
        """Nothing: it holds nothing for a volume."""
        return frozenset()

    def endings(self) -> tuple[Ending, ...]:
        """Nothing: what ends in a Key Vault a refresh does not replace."""
        return ()

    def volume_gone(self, target_path: str) -> None:
        """Nothing to do: Key Vault makes nothing for a volume alone."""

    async def close(self) -> None:
        """Release the connections."""
        await self._credentials.close()
        await self._https.close()

    async def _mount(self, call: MountCall) -> MountResult:
        began = self._wall()
        mount = parse_mount(call.attributes, call.secrets, default_cloud=self._settings.cloud_name)
        options = bundle_options(call.attributes, self._settings)
        cloud = await _cloud(mount.cloud)
        vault = await self._open(mount, cloud, call)
        fetched = await fetch(vault, map(ask_of, mount.objects))
        render = partial(deliver, mount.objects, fetched, mode=call.permission, options=options)
        # Certificates take the library for them some time; the way to a thread takes some, too.
        delivery = render() if is_quick(fetched) else await asyncio.to_thread(render)
        for ref in delivery.broken_chains:
            _log.warning(
                "certificate chain is not complete due to missing intermediate/root certificates "
                "in the cert from key vault",
                vault=mount.vault.name,
                object=str(ref),
            )
        vault.settle()
        return replace(delivery.result, held_seconds=max(0.0, began - vault.oldest))

    async def _open(self, mount: AzureMount, cloud: Cloud, call: MountCall) -> SharedVault:
        """The vault, once there is a token for it."""
        netloc = mount.vault.in_cloud(cloud)
        host = urlsplit(f"https://{netloc}").hostname or netloc
        login = Login(mount.identity, mount.tenant, cloud, cloud.resource_of(host))
        tokens = self._credentials.tokens(login, host=host)
        await tokens.token()
        vault = KeyVault(
            self._https,
            tokens,
            asked=Asked(mount.vault.name, mount.tenant, cloud.authority, mount.identity),
            netloc=netloc,
        )
        return SharedVault(
            vault,
            self._economy,
            identity=tokens.identity,
            call=call,
            proofs=self._proofs,
            wall=self._wall,
        )


async def _cloud(found: Cloud | EnvironmentFile) -> Cloud:
    match found:
        case Cloud():
            return found
        case EnvironmentFile():
            return await asyncio.to_thread(read_environment, found)
        case _:
            assert_never(found)
