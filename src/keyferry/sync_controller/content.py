"""Fetches the content of a SecretSync: token, provider, files made from others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from keyferry.errors import Code, KeyferryError, ProviderReportedError
from keyferry.kubernetes.class_check import check_class
from keyferry.kubernetes.placeholders import with_placeholder_remedy
from keyferry.plugins.derivation import with_derived_files
from keyferry.providers.auditing import audited, subject_of
from keyferry.providers.registry import check_without_pod, token_audiences
from keyferry.records import replace
from keyferry.rendering.class_options import parse_volume_options
from keyferry.resilience.call_context import Purpose
from keyferry.sync_controller.rules.refusals import with_credentials_remedy
from keyferry.sync_controller.rules.request import Credentials, as_upstream, mount_call

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from keyferry.aio.clock import Clock
    from keyferry.aio.jobs import JobRunner
    from keyferry.content import NamedFile, SecretFile
    from keyferry.kubernetes.objects import SecretProviderClass
    from keyferry.kubernetes.syncs.objects import SecretSync
    from keyferry.plugins.providers import Providers, ResolvedProvider
    from keyferry.providers.api import MountResult
    from keyferry.sync_controller.settings import ControllerPod
    from keyferry.sync_controller.tokens import ServiceAccountTokens
    from keyferry.telemetry.audit import AuditLog


class FetchedContent(Struct, frozen=True):
    """What a Secret is made of.

    Attributes:
        files: of the provider, and those made from others.
        named_files: the names by which `sourcePath` may refer to them.
        result: of the provider.
        is_external: whether the provider is behind a socket, so that its versions need not change
            with the content.
    """

    files: Sequence[SecretFile]
    named_files: Sequence[NamedFile]
    result: MountResult
    is_external: bool = False


class CredentialReader(Protocol):
    """Reads Secrets with credentials."""

    async def read_credentials(self, namespace: str, name: str) -> Mapping[str, str]:
        """Return the data of the Secret that `keyferry.dev/credentials-secret` names.

        Raises:
            CredentialsSecretError: it is missing or has a value that is not text.
            StoreError: it cannot be read.
        """


class SyncContent:
    """Fetches the content of SecretSyncs.

    Args:
        providers: the built-in and external providers.
        tokens: the tokens of service accounts.
        credentials: reads Secrets with credentials.
        jobs: makes files from others.
        audit_log: records the accesses to vaults.
        clock: the time of an access.
        pod: the pod of this process, as external providers know it.
    """

    def __init__(
        self,
        *,
        providers: Providers,
        tokens: ServiceAccountTokens,
        credentials: CredentialReader,
        jobs: JobRunner,
        audit_log: AuditLog,
        clock: Clock,
        pod: ControllerPod,
    ) -> None:
        self._providers = providers
        self._tokens = tokens
        self._credentials = credentials
        self._jobs = jobs
        self._audit_log = audit_log
        self._clock = clock
        self._pod = pod
        self._started_at = clock.wall()

    async def fetch(
        self,
        sync: SecretSync,
        spc: SecretProviderClass,
        *,
        interval: float | None,
        not_before: float | None,
    ) -> FetchedContent:
        """Fetch all files of a SecretProviderClass.

        Args:
            sync: the SecretSync.
            spc: its SecretProviderClass.
            interval: seconds between two refreshes; None for never.
            not_before: the content must be newer than this, in monotonic seconds; None without a
                bound.

        Raises:
            KeyferryError: the content cannot be fetched.
        """
        provider = self._providers.resolve(check_class(spc).provider)
        check_without_pod(spc)
        options = parse_volume_options(spc.parameters)
        named_files = await provider.named_files(spc.parameters)
        credentials = await self._log_in(sync, spc, provider)
        is_external = provider.writes_files_itself
        call = mount_call(sync, spc, credentials, pod=self._pod if is_external else None)
        call = replace(call, refresh_interval=interval, not_before=not_before)
        if sync.created_at is not None and sync.created_at < self._started_at:
            # Of many that are first synced after a start, each shares the content of its slot.
            call = replace(call, purpose=Purpose.REFRESH)
        subject = subject_of(call, spc.provider, is_refresh=bool(sync.status.sync_hash))
        previous = () if is_external else call.current_versions
        if is_external:
            call = as_upstream(call)
        with audited(self._audit_log, subject, previous, clock=self._clock) as audit:
            try:
                result = await provider.mount(call)
            except KeyferryError as error:
                known = with_credentials_remedy(error)
                raise with_placeholder_remedy(known, spc.parameters) from error.__cause__
            audit.result = result
        if is_external and not result.files:
            raise _no_files_error(spc.provider)
        files = await with_derived_files(
            result.files, result.missing, options, jobs=self._jobs, tenant=sync.ref.namespace
        )
        return FetchedContent(files, named_files, result, is_external)

    async def _log_in(
        self, sync: SecretSync, spc: SecretProviderClass, provider: ResolvedProvider
    ) -> Credentials:
        """Return only what the identity mode of the SecretProviderClass needs."""
        namespace = sync.ref.namespace
        audiences = None if provider.writes_files_itself else token_audiences(spc)
        tokens = await self._tokens.tokens(namespace, sync.service_account, audiences)
        secrets = None
        if name := sync.options.credentials_secret:
            secrets = await self._credentials.read_credentials(namespace, name)
        return Credentials(tokens, secrets)


def _no_files_error(provider: str) -> ProviderReportedError:
    return ProviderReportedError(
        f"provider {provider!r} returned no files: it writes them into the volume of a pod, and a"
        " SecretSync has none",
        f"Use a version of provider {provider!r} that returns the files to its caller.",
        code=Code.UNKNOWN,
        reason="GRPCProviderError",
    )
