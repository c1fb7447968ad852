"""The provider for Vault and OpenBao. A mount is parsed, logs in, reads, and renders its files."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from keyferry import __version__
from keyferry.aio.clock import SystemClock
from keyferry.aio.jobs import ThreadJobRunner
from keyferry.aio.large_inputs import LargeInputParser
from keyferry.aio.tenant import working_for
from keyferry.errors import KeyferryError, PlatformError, with_upstream_prefix
from keyferry.net.address_guard import AddressGuard
from keyferry.net.http_client import HttpsClient
from keyferry.providers.access_recorder import AccessRecorder
from keyferry.providers.api import API_VERSION, ProviderVersion, StaleContent
from keyferry.providers.class_files import ClassFiles
from keyferry.providers.mount_limits import MountLimits
from keyferry.providers.restrictions import ClassRestrictions
from keyferry.providers.sources.extracting import with_extracted_files
from keyferry.providers.sources.opening import open_all
from keyferry.providers.sources.selected import AbsentObjects
from keyferry.providers.vault.auth.service_account_tokens import DisabledTokenRequester
from keyferry.providers.vault.auth.session import VaultTransport
from keyferry.providers.vault.auth.session_cache import SessionCache
from keyferry.providers.vault.hmac_key import HmacKey
from keyferry.providers.vault.http.client import VaultHttp
from keyferry.providers.vault.http.tls import TlsContexts
from keyferry.providers.vault.leases.manager import LeaseManager
from keyferry.providers.vault.leases.store import LeaseStore
from keyferry.providers.vault.params import MountParams, parse_mount
from keyferry.providers.vault.privileges import (
    PrivilegedKeySource,
    PrivilegedTokenRequester,
    VaultPrivileges,
)
from keyferry.providers.vault.product import OPENBAO, VAULT
from keyferry.providers.vault.read.content import render_all
from keyferry.providers.vault.read.expansion import expand, settle
from keyferry.providers.vault.read.reader import (
    LeasedPathSet,
    ProviderServices,
    VaultReader,
    read_from_sources,
)
from keyferry.records import replace
from keyferry.resilience.cache_key import CacheKey
from keyferry.resilience.revalidation import BulkRevalidator

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from keyferry.aio.clock import Clock
    from keyferry.aio.jobs import JobRunner
    from keyferry.content import ObjectVersion
    from keyferry.providers.api import MountCall, MountResult, Provider
    from keyferry.providers.expiry import ExpiringLease
    from keyferry.providers.mount_limits import MountBudget
    from keyferry.providers.privileges import Privileges
    from keyferry.providers.settings import ProviderDependencies, VaultSettings
    from keyferry.providers.sources.diagnosis import DiagnosisPlan
    from keyferry.providers.vault.auth.login import Login
    from keyferry.providers.vault.auth.service_account_tokens import TokenRequester
    from keyferry.providers.vault.objects import SourceRequest, VaultObject
    from keyferry.providers.vault.product import Product
    from keyferry.resilience.fetcher import Fetcher
    from keyferry.telemetry.metrics import ProviderMetrics


def build_vault(deps: ProviderDependencies) -> Provider:
    """Return the provider for `spec.provider: vault`."""
    return _build(VAULT, deps, deps.settings.vault)


def build_openbao(deps: ProviderDependencies) -> Provider:
    """Return the provider for `spec.provider: openbao`."""
    return _build(OPENBAO, deps, deps.settings.openbao)


def _build(product: Product, deps: ProviderDependencies, settings: VaultSettings) -> VaultProvider:
    https = deps.https
    if settings.limits.call_timeout is not None:
        https = replace(https, try_timeout=settings.limits.call_timeout)
    restrictions = deps.settings.restrictions
    guarded = restrictions.checks_local_addresses
    return VaultProvider(
        product,
        HttpsClient(https, guard=AddressGuard(restrictions.node_addresses) if guarded else None),
        deps.fetcher,
        settings,
        restrictions=restrictions,
        privileges=deps.privileges,
        metrics=deps.metrics,
        emulated=deps.emulator is not None,
        jobs=deps.jobs,
        mount_limits=deps.mount_limits,
    )


class VaultProvider:
    """Delivers secrets from Vault or OpenBao.

    Args:
        product: the product.
        https: client for connections; closed with the provider.
        fetcher: cache and rate limits.
        settings: settings from flags and environment.
        restrictions: what SecretProviderClasses may name; None for the default.
        clock: source of the current time; None for the system's clock.
        privileges: the privileged side of this provider; None to run it in this process.
        metrics: metrics to update; None for none.
        emulated: whether `https` connects to the emulator, which serves Azure only.
        jobs: runs parse jobs; None for threads of its own.
        mount_limits: limits of mounts, which all providers of the process share.

    Attributes:
        leases: the dynamic secrets of pods.
    """

    def __init__(
        self,
        product: Product,
        https: HttpsClient,
        fetcher: Fetcher,
        settings: VaultSettings,
        *,
        restrictions: ClassRestrictions | None = None,
        clock: Clock | None = None,
        privileges: Privileges | None = None,
        metrics: ProviderMetrics | None = None,
        emulated: bool = False,
        jobs: JobRunner | None = None,
        mount_limits: MountLimits | None = None,
    ) -> None:
        self._product = product
        self._jobs = jobs or ThreadJobRunner()
        self._parser = LargeInputParser()
        self._absent_objects = AbsentObjects()
        self._emulated = emulated
        self._mount_limits = mount_limits or MountLimits()
        self._https = https
        self._settings = settings
        self._fetcher = fetcher
        self._restrictions = restrictions or ClassRestrictions()
        self._class_files = ClassFiles(self._restrictions)
        self._http = VaultHttp(
            https, TlsContexts(https, self._class_files, metrics, jobs), self._restrictions
        )
        self._privileges = privileges or VaultPrivileges(
            settings, https.settings, fetcher.transport
        )
        self._clock = clock = clock or SystemClock()
        vaults = VaultTransport(self._http, fetcher.transport, clock)
        store = LeaseStore(tuple(Path(folder) / product.name for folder in settings.lease_folders))
        self.leases = LeaseManager(
            vaults,
            clock,
            store,
            renew_in_background=settings.renew_leases,
            idle_seconds=settings.lease_idle_seconds,
        )
        self._services = ProviderServices(
            vaults,
            fetcher,
            SessionCache(
                vaults,
                self._token_requester(),
                get_hasher=lambda: store.identity_hasher,
                max_sessions=settings.max_sessions,
            ),
            self.leases,
            LeasedPathSet(),
            BulkRevalidator(fetcher) if fetcher.revalidates_by_list else None,
        )
        self._hmac_key = HmacKey(
            product.name,
            PrivilegedKeySource(self._privileges)
            if settings.kubernetes_url and settings.hmac_secret
            else None,
            self._privileges.load_node_key if settings.hmac_key_file else None,
            clock,
        )

    async def mount(self, call: MountCall) -> MountResult:
        """Fetch all objects of a mount call.

        Raises:
            KeyferryError: an object could not be delivered.
        """
        recorder = AccessRecorder()
        self._class_files.protect_volumes_beside(call.target_path)
        try:
            with working_for(call.tenant):
                async with self._mount_limits.mounting(call.tenant) as budget:
                    return await self._mount(call, recorder, budget)
        except KeyferryError as error:
            mount_error = with_upstream_prefix("error making mount request", error)
            mount_error.accesses = recorder.accesses()
            raise mount_error from error.__cause__

    async def plan_diagnosis(self, call: MountCall) -> DiagnosisPlan:
        """Return the parts of a mount, for `keyferry doctor`; see `Diagnosable`."""
        from keyferry.providers.vault.diagnosis.plan import VaultDiagnosis

        mount = await self._read_parameters(call)
        return VaultDiagnosis(self._http, self._product).plan(mount, call.attributes)

    async def version(self) -> ProviderVersion:
        """Return the protocol version and the product version."""
        return ProviderVersion(API_VERSION, self._product.runtime_name, __version__)

    def restore(self) -> frozenset[str]:
        """Restore leases of an earlier process; return the target paths of their volumes."""
        leases = self.leases.restore()
        for lease in leases:
            token, origin = lease.result.token, lease.result.origin
            if lease.id:
                self._services.leased_paths.add(origin.server.endpoint, lease.path)
            if lease.id and origin.token_revocable:
                self._services.sessions.remember_kind(origin, kubernetes=token.from_kubernetes_auth)
        return frozenset(volume for lease in leases for volume in lease.volumes)

    def expiring_leases(self) -> tuple[ExpiringLease, ...]:
        """Return the leases that only a refresh of their volume can replace."""
        return self.leases.expiring_leases()

    def volume_removed(self, target_path: str) -> None:
        """Revoke in the background the leases that only this volume uses."""
        self._absent_objects.forget(target_path)
        self.leases.volume_removed(target_path)

    async def close(self) -> None:
        """Close connections. Secrets of running pods remain valid."""
        await self.leases.close()
        await self._hmac_key.close()
        await self._privileges.close()
        await self._http.close()
        await self._https.close()

    def _token_requester(self) -> TokenRequester:
        if not (self._settings.kubernetes_url and self._settings.create_pod_tokens):
            return DisabledTokenRequester(self._product)
        return PrivilegedTokenRequester(self._privileges)

    async def _read_parameters(self, call: MountCall) -> MountParams:
        parse = partial(
            parse_mount,
            call.attributes,
            call.credentials,
            target_path=call.target_path,
            product=self._product,
            settings=self._settings,
            restrictions=self._restrictions,
        )
        mount = await self._parser.run(parse, call.attributes, tenant=call.tenant)
        if self._emulated:
            raise PlatformError(
                f"the development vault does not emulate {self._product.title}",
                f"Remove --dev-vault, and run {self._product.command} server -dev instead.",
            )
        return mount

    async def _mount(
        self, call: MountCall, recorder: AccessRecorder, budget: MountBudget
    ) -> MountResult:
        mount = await self._read_parameters(call)
        self._hmac_key.refresh_in_background(call.purpose)
        opened = await self._open_sources(mount, call, recorder, budget)
        expansion = await expand(mount.objects, opened, self._product)
        requests = (entry.source_request for entry in expansion.objects)
        responses = await read_from_sources(opened, requests)
        expansion = settle(expansion, mount.objects, responses, call, self._absent_objects)
        objects = expansion.objects
        limit = budget.file_limit()
        rendered = render_all(
            objects,
            responses,
            default_mode=call.permission,
            product=self._product,
            hmac_key=await self._hmac_key.get(),
            limit=limit,
        )
        # A source that could not be opened has failed the mount.
        readers = {
            source: reader
            for source, reader in enumerate(opened)
            if isinstance(reader, VaultReader)
        }
        self._retain_only(call.target_path, readers, responses)
        for source, reader in readers.items():
            versions = rendered.result.versions
            reader.recorder.delivered(_status_versions(source, objects, versions))
        result = await with_extracted_files(
            rendered.result,
            rendered.extractions,
            jobs=self._jobs,
            tenant=call.tenant,
            limit=limit,
        )
        self._absent_objects.record(call, expansion.absent)
        return replace(
            expansion.added_to(result),
            oldest_content_age=max(reader.oldest_age for reader in readers.values()),
            accesses=recorder.accesses(),
            stale=self._stale_content(readers.values()),
            is_leased=any(call.target_path in lease.volumes for lease in self.leases),
        )

    async def _open_sources(
        self,
        mount: MountParams,
        call: MountCall,
        recorder: AccessRecorder,
        budget: MountBudget,
    ) -> tuple[VaultReader | KeyferryError, ...]:
        """Return the reader of each source, or why it cannot be opened.

        Raises:
            KeyferryError: the only source cannot be opened.
        """

        async def open_source(source: int, login: Login) -> VaultReader:
            several = len(mount.logins) > 1
            self._fetcher.configure(login.server.endpoint, self._settings.limits, call.caller)
            accesses = recorder.at(login.server.host, login.audit_names)
            own = (each.request for each in mount.objects if several and each.source == source)
            with accesses.opening((request.path.path for request in own), self._fetcher.now):
                session = await self._services.sessions.open(login, call.purpose)
            return VaultReader(
                self._services,
                session,
                volume=call.target_path,
                purpose=call.purpose,
                wanted=call.wanted,
                recorder=accesses,
                budget=budget,
            )

        return await open_all(mount.logins, open_source)

    def _retain_only(
        self, volume: str, readers: Mapping[int, VaultReader], requests: Iterable[SourceRequest]
    ) -> None:
        """Record that a volume uses only these requests; release its other secrets."""
        lease_keys = {readers[source].lease_key(request) for source, request in requests}
        used = frozenset[CacheKey]().union(*(reader.cached_keys for reader in readers.values()))
        self.leases.retain_only(volume, lease_keys)
        self._fetcher.retain_only(volume, used)

    def _stale_content(self, readers: Iterable[VaultReader]) -> tuple[StaleContent, ...]:
        now = self._clock.wall().timestamp()
        return tuple(
            StaleContent(reader.host, now - reader.stale_age)
            for reader in readers
            if reader.stale_age is not None
        )


def _status_versions(
    source: int, objects: Sequence[VaultObject], versions: Sequence[ObjectVersion]
) -> dict[str, tuple[tuple[str, str], ...]]:
    """Return the entries of the pod status that depend on each API path of a source."""
    entries: dict[str, list[tuple[str, str]]] = {}
    for vault_object, version in zip(objects, versions, strict=True):
        if vault_object.source == source:
            path = vault_object.request.path.path
            entries.setdefault(path, []).append((version.id, version.version))
    return {path: tuple(found) for path, found in entries.items()}
