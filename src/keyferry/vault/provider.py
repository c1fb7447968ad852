"""One mount from Vault or OpenBao: parse, log in, read, render. All of it or nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from keyferry import __version__
from keyferry.clocks import SystemClock
from keyferry.contract import API_VERSION, ProviderVersion
from keyferry.economy.proofs import Proofs
from keyferry.errors import KeyferryError, PlatformError
from keyferry.failures import within
from keyferry.https import HttpsClient
from keyferry.vault.delivery import deliver
from keyferry.vault.http import VaultHttp
from keyferry.vault.key_secret import KeySecret
from keyferry.vault.kubernetes_api import KubernetesApi
from keyferry.vault.lease_store import LeaseStore
from keyferry.vault.leases import Leases
from keyferry.vault.params import parse_mount
from keyferry.vault.pod_tokens import NoPodTokens
from keyferry.vault.product import OPENBAO, VAULT
from keyferry.vault.reader import LeasedPaths, Reader, VaultParts
from keyferry.vault.session import Vaults
from keyferry.vault.sessions import Sessions
from keyferry.vault.tls import TlsContexts
from keyferry.vault.token_requests import TokenRequests
from keyferry.vault.version_key import VersionKey

if TYPE_CHECKING:
    from keyferry.clocks import Clock
    from keyferry.contract import MountCall, MountResult, Provider
    from keyferry.economy.hub import Economy
    from keyferry.expiry import Ending
    from keyferry.metrics import Metrics
    from keyferry.provider_parts import ProviderParts
    from keyferry.vault.pod_tokens import PodTokens
    from keyferry.vault.product import Product
    from keyferry.vault_settings import VaultSettings


def build_vault(parts: ProviderParts) -> Provider:
    """The provider for `spec.provider: vault`."""
    return _build(VAULT, parts, parts.settings.vault)


def build_openbao(parts: ProviderParts) -> Provider:
    """The provider for `spec.provider: openbao`."""
    return _build(OPENBAO, parts, parts.settings.openbao)


def _build(product: Product, parts: ProviderParts, settings: VaultSettings) -> VaultProvider:
    https = parts.https
    if settings.limits.seconds is not None:
        https = replace(https, try_timeout=settings.limits.seconds)
    return VaultProvider(
        product, HttpsClient(https), parts.economy, settings, metrics=parts.metrics
    )


class VaultProvider:
    """Delivers secrets from one of the two products.

    Args:
        product: which one.
        https: its connections; closed with it.
        economy: spares the vaults.
        settings: what it was told.
        clock: how time passes.
        tokens: makes service-account tokens where kubelet sent none; None: as the settings say.
        metrics: what is counted.

    Attributes:
        leases: what is held for pods.
    """

    def __init__(
        self,
        product: Product,
        https: HttpsClient,
        economy: Economy,
        settings: VaultSettings,
        *,
        clock: Clock | None = None,
        tokens: PodTokens | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self._product = product
        self._https = https
        self._settings = settings
        self._economy = economy
        self._http = VaultHttp(https, TlsContexts(metrics))
        clock = clock or SystemClock()
        vaults = Vaults(self._http, economy, clock)
        folder = Path(settings.lease_folder) / product.name if settings.lease_folder else None
        store = LeaseStore(folder)
        self.leases = Leases(
            vaults,
            clock,
            store,
            background=settings.keeps_leases,
            idle=settings.lease_idle,
        )
        api = self._kubernetes_api()
        self._parts = VaultParts(
            vaults,
            economy,
            Sessions(
                vaults,
                tokens or self._pod_tokens(api),
                identities=lambda: store.identities,
                limit=settings.sessions,
            ),
            self.leases,
            LeasedPaths(),
            Proofs(economy) if economy.proves else None,
        )
        self._version_key = VersionKey(
            product.name,
            KeySecret(api, settings.hmac_secret) if api and settings.hmac_secret else None,
            Path(settings.key_file) if settings.key_file else None,
            clock,
        )

    async def mount(self, call: MountCall) -> MountResult:
        """Fetch everything that `call` asks for, or raise a `KeyferryError`."""
        try:
            return await self._mount(call)
        except KeyferryError as error:
            raise within("error making mount request", error) from error.__cause__

    async def version(self) -> ProviderVersion:
        """Tell the protocol and the product version."""
        return ProviderVersion(API_VERSION, self._product.runtime_name, __version__)

    def restore(self) -> frozenset[str]:
        """Take up what an earlier process held; returns the target paths that it is for."""
        leases = self.leases.restore()
        for lease in leases:
            grant, origin = lease.issued.grant, lease.issued.origin
            if lease.id:
                self._parts.leased.add(origin.server, lease.path)
            if lease.id and origin.own_token:
                self._parts.sessions.learn_kind(
                    origin.server, origin.mount, kubernetes=grant.kubernetes
                )
        return frozenset(volume for lease in leases for volume in lease.volumes)

    def endings(self) -> tuple[Ending, ...]:
        """The secrets that the vault renews no further."""
        return self.leases.endings()

    def volume_gone(self, target_path: str) -> None:
        """Give back what was made for this volume alone, without waiting for the vault."""
        self.leases.volume_gone(target_path)

    async def close(self) -> None:
        """Release the connections; what pods use stays good."""
        await self.leases.close()
        await self._version_key.close()
        await self._http.close()
        await self._https.close()

    def _kubernetes_api(self) -> KubernetesApi | None:
        """The cluster that this process runs in; None outside of one."""
        settings = self._settings
        if not settings.kubernetes_url:
            return None
        return KubernetesApi(
            self._http,
            self._economy,
            url=settings.kubernetes_url,
            folder=settings.service_account_folder,
        )

    def _pod_tokens(self, api: KubernetesApi | None) -> PodTokens:
        if api is None or not self._settings.creates_pod_tokens:
            return NoPodTokens(self._product)
        return TokenRequests(api)

    async def _mount(self, call: MountCall) -> MountResult:
        mount = parse_mount(
            call.attributes,
            call.secrets,
            target_path=call.target_path,
            product=self._product,
            settings=self._settings,
        )
        if self._https.settings.dev is not None:
            raise PlatformError(
                f"the development vault does not speak the API of {self._product.title}",
                f"Leave --dev-vault out, and run {self._product.command} server -dev instead.",
            )
        self._version_key.begin(call.purpose)
        self._economy.limit(mount.login.server.host, self._settings.limits)
        session = await self._parts.sessions.open(mount.login, call.purpose)
        reader = Reader(self._parts, session, volume=call.target_path, purpose=call.purpose)
        answers = await reader.read_all(found.request for found in mount.objects)
        result = deliver(
            mount.objects,
            answers,
            mode=call.permission,
            product=self._product,
            version_key=await self._version_key.get(),
        )
        reader.settle(answers)
        return result
