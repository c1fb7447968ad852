"""The provider for Azure Key Vault: a mount parses, authenticates, fetches and renders."""

from __future__ import annotations

import asyncio
from copy import copy
from functools import partial
from typing import TYPE_CHECKING, assert_never
from urllib.parse import SplitResult, urlsplit

from keyferry import __version__
from keyferry.aio.clock import SystemClock
from keyferry.aio.jobs import ThreadJobRunner
from keyferry.aio.large_inputs import LargeInputParser
from keyferry.aio.tenant import working_for
from keyferry.errors import KeyferryError, VaultError, prefixed, with_upstream_prefix
from keyferry.formats.certs.material import MaterialBatch
from keyferry.net.address_guard import AddressGuard
from keyferry.net.connection_errors import forbidden_address_error
from keyferry.net.http_client import HttpsClient
from keyferry.providers.access_recorder import AccessRecorder
from keyferry.providers.api import API_VERSION, MountResult, ProviderVersion, StaleContent
from keyferry.providers.azure.auth.identity import audit_names
from keyferry.providers.azure.auth.token_cache import AccessTokenRequest, TokenCache
from keyferry.providers.azure.auth.token_sources import TokenEndpoints
from keyferry.providers.azure.cloud_file import read_environment_file
from keyferry.providers.azure.clouds import AzureCloud, EnvironmentFile, check_default_cloud
from keyferry.providers.azure.content import materials, render_all
from keyferry.providers.azure.find.expansion import expand, settle
from keyferry.providers.azure.keyvault import KeyVault, KeyVaultTransport
from keyferry.providers.azure.keyvault_errors import RequestContext, emulator_remedy
from keyferry.providers.azure.params import BundleOptions, bundle_options, parse_mount
from keyferry.providers.azure.reader import CachedKeyVault, fetch_from_sources
from keyferry.providers.azure.versions import request_for
from keyferry.providers.class_files import ClassFiles
from keyferry.providers.key_jobs import KEY_MATERIAL
from keyferry.providers.mount_limits import MountLimits
from keyferry.providers.settings import ProviderSettings
from keyferry.providers.sources.extracting import with_extracted_files
from keyferry.providers.sources.opening import open_all
from keyferry.providers.sources.selected import AbsentObjects
from keyferry.records import replace
from keyferry.resilience.cache_key import CacheKey
from keyferry.resilience.revalidation import BulkRevalidator
from keyferry.telemetry.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterable

    from keyferry.aio.clock import Clock
    from keyferry.aio.jobs import JobRunner
    from keyferry.formats.certs.material import KeyMaterial, ParsedMaterial
    from keyferry.providers.api import MountCall, Provider
    from keyferry.providers.azure.objects import KeyVaultObject
    from keyferry.providers.azure.params import AzureMount, AzureSource
    from keyferry.providers.emulator import Emulator
    from keyferry.providers.expiry import ExpiringLease
    from keyferry.providers.mount_limits import MountBudget
    from keyferry.providers.privileges import Privileges
    from keyferry.providers.settings import ProviderDependencies
    from keyferry.providers.sources.diagnosis import DiagnosisPlan
    from keyferry.resilience.fetcher import Fetcher

HTTPS_PORT = 443
MATERIALS_PER_JOB = 8
"""The CPU time of a job is limited. PKCS#12 takes 2 ms, and up to 0.3 s with unusual ciphers."""

_log = get_logger("azure")


def build_provider(deps: ProviderDependencies) -> Provider:
    """Create the provider for `spec.provider: azure`.

    Raises:
        PlatformError: a setting is invalid.
    """
    check_default_cloud(deps.settings.cloud_name)
    restrictions = deps.settings.restrictions
    guarded = restrictions.checks_local_addresses and deps.emulator is None
    return AzureProvider(
        HttpsClient(
            deps.https, guard=AddressGuard(restrictions.node_addresses) if guarded else None
        ),
        deps.fetcher,
        deps.settings,
        emulator=deps.emulator,
        jobs=deps.jobs,
        privileges=deps.privileges,
        mount_limits=deps.mount_limits,
    )


class AzureProvider:
    """Delivers secrets from Azure Key Vault.

    Args:
        https: provides the connections; `close` closes it.
        fetcher: caches content and limits requests.
        settings: the settings of the provider.
        emulator: the emulator that `https` connects to; None in production.
        privileges: the privileged side of this provider; None to run it in this process.
        clock: reads the time.
        jobs: runs parse jobs; None for threads of its own.
        mount_limits: limits of mounts, which all providers of the process share.
    """

    def __init__(
        self,
        https: HttpsClient,
        fetcher: Fetcher,
        settings: ProviderSettings | None = None,
        *,
        emulator: Emulator | None = None,
        privileges: Privileges | None = None,
        clock: Clock | None = None,
        jobs: JobRunner | None = None,
        mount_limits: MountLimits | None = None,
    ) -> None:
        self._https = https
        self._fetcher = fetcher
        self._settings = settings or ProviderSettings()
        self._bundle_defaults = BundleOptions(
            self._settings.construct_pem_chain, self._settings.separate_files
        )
        self._restrictions = self._settings.restrictions
        self._class_files = ClassFiles(self._restrictions)
        self._parser = LargeInputParser()
        self._absent_objects = AbsentObjects()
        self._emulator = emulator
        self._clock = clock or SystemClock()
        self._jobs = jobs or ThreadJobRunner()
        self._mount_limits = mount_limits or MountLimits(self._settings.max_mount_bytes)
        self._transport = KeyVaultTransport(https, fetcher.transport)
        endpoints = TokenEndpoints.from_settings(self._settings, emulator, privileges)
        self._token_cache = TokenCache(
            https, fetcher.transport, self._settings, endpoints=endpoints, jobs=self._jobs
        )
        self._revalidator = BulkRevalidator(fetcher) if fetcher.revalidates_by_list else None

    async def mount(self, call: MountCall) -> MountResult:
        """Fetch and render all objects of a mount.

        Raises:
            KeyferryError: any of them failed.
        """
        recorder = AccessRecorder()
        self._class_files.protect_volumes_beside(call.target_path)
        try:
            with working_for(call.tenant):
                async with self._mount_limits.mounting(call.tenant) as budget:
                    return await self._mount(call, recorder, budget)
        except KeyferryError as error:
            mount_error = with_upstream_prefix(
                "failed to mount objects, error", await self._in_this_world(error)
            )
            mount_error.accesses = recorder.accesses()
            raise mount_error from error.__cause__

    async def plan_diagnosis(self, call: MountCall) -> DiagnosisPlan:
        """Return the parts of a mount, for `keyferry doctor`; see `Diagnosable`."""
        from keyferry.providers.azure.diagnosis.plan import AzureDiagnosis

        mount, cloud = await self._read_parameters(call)
        diagnosis = AzureDiagnosis(
            self._https, self._token_cache, emulated=self._emulator is not None
        )
        return diagnosis.plan(mount, cloud, call.attributes)

    async def version(self) -> ProviderVersion:
        """Return the protocol version and the product version."""
        name = "secrets-store-csi-driver-provider-azure"
        return ProviderVersion(API_VERSION, name, __version__)

    def restore(self) -> frozenset[str]:
        """Return an empty set: Key Vault has no leases to restore."""
        return frozenset()

    def expiring_leases(self) -> tuple[ExpiringLease, ...]:
        """Return an empty tuple: Key Vault has no leases."""
        return ()

    def volume_removed(self, target_path: str) -> None:
        """Forget the volume: Key Vault creates nothing for it."""
        self._absent_objects.forget(target_path)

    async def close(self) -> None:
        """Cancel token requests and close the connections."""
        await self._token_cache.close()
        await self._https.close()

    async def _read_parameters(self, call: MountCall) -> tuple[AzureMount, AzureCloud]:
        parse = partial(
            parse_mount,
            call.attributes,
            call.credentials,
            default_cloud=self._settings.cloud_name,
            restrictions=self._restrictions,
        )
        mount = await self._parser.run(parse, call.attributes, tenant=call.tenant)
        bundle_options(call.attributes, self._bundle_defaults)
        return mount, await self._resolve_cloud(mount.cloud)

    async def _mount(
        self, call: MountCall, recorder: AccessRecorder, budget: MountBudget
    ) -> MountResult:
        mount, cloud = await self._read_parameters(call)
        options = bundle_options(call.attributes, self._bundle_defaults)
        opened = await self._open_sources(mount, cloud, call, recorder, budget=budget)
        expansion = await expand(mount.objects, opened)
        outcomes = await fetch_from_sources(opened, map(request_for, expansion.objects))
        expansion = settle(expansion, mount.objects, outcomes, call, self._absent_objects)
        objects = expansion.objects
        parsed = await self._parse(materials(objects, outcomes, options), call.tenant)
        limit = budget.file_limit()
        rendered = render_all(
            objects,
            outcomes,
            default_mode=call.permission,
            options=options,
            parse=parsed.__getitem__,
            limit=limit,
        )
        for vault_object in rendered.incomplete_chains:
            _log.warning_once(
                "certificate chain is not complete due to missing intermediate/root certificates "
                "in the cert from key vault",
                vault=mount.sources[vault_object.source].vault.name,
                object=str(vault_object.ref),
            )
        # A source that could not be opened has failed the mount.
        vaults = [vault for vault in opened if isinstance(vault, CachedKeyVault)]
        used_keys = frozenset[CacheKey]().union(*(vault.used_keys for vault in vaults))
        self._fetcher.retain_only(call.target_path, used_keys)
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
            oldest_content_age=max(vault.oldest_age for vault in vaults),
            accesses=recorder.accesses(),
            stale=self._stale_content(vaults),
        )

    async def _in_this_world(self, error: KeyferryError) -> KeyferryError:
        """Return the error to report: with a development vault, one that speaks of it."""
        if self._emulator is None:
            return error
        commands = self._emulator.commands
        if isinstance(error, VaultError) and not await asyncio.to_thread(self._emulator.is_running):
            return commands.not_running_error()
        shown = copy(error)
        shown.remedy = emulator_remedy(error, commands)
        return shown

    async def _parse(
        self, found: dict[KeyMaterial, KeyVaultObject], tenant: str
    ) -> dict[KeyMaterial, ParsedMaterial]:
        """Parse certificates and keys, a few in each job.

        Raises:
            KeyferryError: a job exceeded a limit. The message names its objects.
        """
        parsed: dict[KeyMaterial, ParsedMaterial] = {}
        waiting = tuple(found)
        while waiting:
            batch, waiting = waiting[:MATERIALS_PER_JOB], waiting[MATERIALS_PER_JOB:]
            try:
                result = await self._jobs.run(KEY_MATERIAL, MaterialBatch(batch), tenant=tenant)
            except KeyferryError as error:
                names = ", ".join(dict.fromkeys(str(found[material]) for material in batch))
                raise prefixed(f"failed to parse {names}", error) from error.__cause__
            parsed.update(zip(batch, result.items, strict=True))
        return parsed

    def _stale_content(self, vaults: Iterable[CachedKeyVault]) -> tuple[StaleContent, ...]:
        now = self._clock.wall().timestamp()
        return tuple(
            StaleContent(vault.host, now - vault.stale_age)
            for vault in vaults
            if vault.stale_age is not None
        )

    async def _open_sources(
        self,
        mount: AzureMount,
        cloud: AzureCloud,
        call: MountCall,
        recorder: AccessRecorder,
        *,
        budget: MountBudget,
    ) -> tuple[CachedKeyVault | KeyferryError, ...]:
        """Return the client for the vault of each source, or why it cannot be opened.

        Raises:
            KeyferryError: the only source cannot be opened.
        """

        async def open_vault(index: int, source: AzureSource) -> CachedKeyVault:
            names = [each.ref.id for each in mount.objects if each.source == index]
            return await self._open_vault(
                source,
                cloud,
                call,
                recorder,
                budget=budget,
                names=names if len(mount.sources) > 1 else (),
            )

        return await open_all(mount.sources, open_vault)

    async def _open_vault(
        self,
        source: AzureSource,
        cloud: AzureCloud,
        call: MountCall,
        recorder: AccessRecorder,
        *,
        budget: MountBudget,
        names: Iterable[str],
    ) -> CachedKeyVault:
        """Return the client for the vault of a source, after its identity has got a token.

        `names` are the objects to name in the audit log if it gets none.
        """
        netloc = source.vault.netloc_in(cloud)
        url = urlsplit(f"https://{netloc}")
        self._check_address(url, f"read vault {source.vault.name}")
        host = url.hostname or netloc
        request = AccessTokenRequest(
            source.identity, source.tenant, cloud, cloud.token_resource(host)
        )
        tokens = self._token_cache.token_provider(request, host=host, caller=call.caller)
        accesses = recorder.at(netloc, audit_names(source.identity, source.tenant))
        # Before the cache is read, so that an identity that gets no token gets no content.
        with accesses.opening(names, self._clock.monotonic):
            await tokens.get_token()
        vault = KeyVault(
            self._transport,
            tokens,
            context=RequestContext(
                source.vault.name,
                source.tenant,
                cloud.authority,
                source.identity,
                None if self._emulator is None else self._emulator.commands,
            ),
            netloc=netloc,
            budget=budget,
        )
        return CachedKeyVault(
            vault,
            self._fetcher,
            identity=tokens.identity,
            call=call,
            revalidator=self._revalidator,
            clock=self._clock,
            recorder=accesses,
            budget=budget,
        )

    async def _resolve_cloud(self, cloud: AzureCloud | EnvironmentFile) -> AzureCloud:
        match cloud:
            case AzureCloud():
                return cloud
            case EnvironmentFile():
                described = await read_environment_file(cloud, self._class_files)
                self._check_address(urlsplit(described.authority), "get a token")
                return described
            case _:
                assert_never(cloud)

    def _check_address(self, url: SplitResult, action: str) -> None:
        """Check the address of a vault or a token endpoint that a SecretProviderClass names.

        Raises:
            ClassInvalidError: it is not in the list of permitted addresses.
        """
        if not self._restrictions.permits_address(url.hostname or "", url.port or HTTPS_PORT):
            raise forbidden_address_error(action, url.netloc)
