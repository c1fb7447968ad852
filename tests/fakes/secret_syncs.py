"""SecretSyncs, and everything that the controller's reconciler meets, in memory.

world = SyncWorld()
world.add_class()
world.add_sync()
await world.reconcile()
assert world.data() == {"password": "1"}
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CollectorRegistry

from keyferry.content import NamedFile, ObjectVersion, SecretFile
from keyferry.errors import ClassInvalidError, KeyferryError
from keyferry.kubernetes.api.secret_store import SecretStore
from keyferry.kubernetes.markings import SYNC_LABEL
from keyferry.kubernetes.objects import Event, SecretProviderClass
from keyferry.kubernetes.syncs.codec import parse_sync
from keyferry.kubernetes.syncs.groups import UPSTREAM_GROUP, SyncGroup
from keyferry.kubernetes.syncs.objects import (
    SecretSync,
    ServiceAccountOptIn,
    SyncKey,
    SyncStatus,
)
from keyferry.plugins.providers import Providers, ResolvedProvider
from keyferry.providers.api import MountResult
from keyferry.records import replace
from keyferry.sync_controller.content import SyncContent
from keyferry.sync_controller.reconciler import Result, SyncReconciler
from keyferry.sync_controller.reporter import SyncReporter
from keyferry.sync_controller.rules.request import Token
from keyferry.sync_controller.settings import ControllerPod, SyncControllerSettings
from keyferry.sync_controller.tokens import ServiceAccountTokens, TokenKey
from keyferry.telemetry.audit import NullAuditLog
from keyferry.telemetry.sync_metrics import SyncMetrics
from tests.fakes.clock import START, ManualClock
from tests.fakes.jobs import RecordingJobRunner
from tests.fakes.kube_memory import MemoryApi
from tests.fakes.provider import ScriptedProvider
from tests.fakes.syncs import UID, served, sync_manifest

POD = ControllerPod("keyferry-sync-0", "keyferry", "pod-uid", "node-1")
CLASS_UID = "3f6c-class"
OPAQUE = {"type": "Opaque", "data": [{"sourcePath": "password", "targetKey": "password"}]}


def secret_sync(
    name: str = "web",
    namespace: str = "shop",
    *,
    group: SyncGroup = UPSTREAM_GROUP,
    uid: str = UID,
    generation: int = 1,
    status: SyncStatus | None = None,
    annotations: Mapping[str, str] | None = None,
    terminating: bool = False,
    **spec: Any,
) -> SecretSync:
    """Return a SecretSync of SecretProviderClass `vault`; `spec` replaces or adds fields."""
    written = sync_manifest(
        name, namespace, api_version=str(group), annotations=dict(annotations or {}), **spec
    )
    written["metadata"] |= {"uid": uid, "generation": generation}
    if terminating:
        written["metadata"]["deletionTimestamp"] = "2030-01-01T12:00:00Z"
    return replace(parse_sync(served(written), group), status=status or SyncStatus())


def sync_class(
    name: str = "vault", namespace: str = "shop", *, generation: int = 1, **changes: Any
) -> SecretProviderClass:
    """Return a SecretProviderClass."""
    made = SecretProviderClass(
        namespace, name, "scripted", {"objects": "some"}, version=f"{CLASS_UID}/{generation}"
    )
    return replace(made, **changes)


def content(files: Mapping[str, str], version: str = "v1", **changes: Any) -> MountResult:
    """Return what the provider fetched: one object for each file."""
    result = MountResult(
        versions=tuple(ObjectVersion(f"secret/{path}", version) for path in files),
        files=tuple(SecretFile(path, 0o644, text.encode()) for path, text in files.items()),
    )
    return replace(result, **changes)


class MemoryView:
    """Implements `SyncView`: the caches of the controller, always up to date.

    Args:
        api: has the Secrets.

    Attributes:
        syncs: the SecretSyncs.
        spcs: the SecretProviderClasses; an error for an invalid one.
        opt_ins: the service accounts that opted in.
        unwatched: namespaces whose Secrets are unknown.
    """

    def __init__(self, api: MemoryApi) -> None:
        self._api = api
        self.syncs: dict[SyncKey, SecretSync] = {}
        self.spcs: dict[tuple[str, str], SecretProviderClass | ClassInvalidError] = {}
        self.opt_ins: dict[tuple[str, str], ServiceAccountOptIn] = {}
        self.unwatched: set[str] = set()

    def sync(self, key: SyncKey) -> SecretSync | None:
        """Return a SecretSync, or None."""
        return self.syncs.get(key)

    def class_(self, namespace: str, name: str) -> SecretProviderClass | None:
        """Return a SecretProviderClass, or None."""
        found = self.spcs.get((namespace, name))
        if isinstance(found, ClassInvalidError):
            raise found
        return found

    def classes(self, namespace: str) -> Sequence[SecretProviderClass]:
        """Return the valid SecretProviderClasses of a namespace."""
        found = (spc for (where, _), spc in self.spcs.items() if where == namespace)
        return [spc for spc in found if isinstance(spc, SecretProviderClass)]

    def secret_version(self, namespace: str, name: str) -> str | None:
        """Return `uid/resourceVersion` of a Secret with the label."""
        if (
            namespace in self.unwatched
            or ("secrets", namespace, name) not in self._api.objects.stored
        ):
            return None
        metadata = self._api.objects.manifest(("secrets", namespace, name))["metadata"]
        if SYNC_LABEL not in metadata.get("labels", {}):
            return None
        return f"{metadata['uid']}/{metadata['resourceVersion']}"

    def watches_secrets(self, namespace: str) -> bool:
        """Return whether the Secrets of a namespace are known."""
        return namespace not in self.unwatched

    def service_account(self, namespace: str, name: str) -> ServiceAccountOptIn | None:
        """Return a service account that opted in."""
        return self.opt_ins.get((namespace, name))


class MemoryStatuses:
    """Implements `StatusWriter`: writes to the view, as the cache of the controller does.

    Attributes:
        written: all statuses, in order.
        error: raised by every write, if it is set.
        failures: how many writes still raise it.
    """

    def __init__(self, view: MemoryView) -> None:
        self._view = view
        self.written: list[SyncStatus] = []
        self.error: KeyferryError | None = None
        self.failures = 1_000_000

    async def write_status(self, sync: SecretSync, status: SyncStatus) -> None:
        """Write a status."""
        if self.error is not None and self.failures > 0:
            self.failures -= 1
            raise self.error
        self.written.append(status)
        live = self._view.syncs.get(sync.ref.key)
        if live is not None and live.ref.uid == sync.ref.uid:
            self._view.syncs[sync.ref.key] = replace(live, status=status)


class RecordedEvents:
    """Implements `EventSink`.

    Attributes:
        events: all events, in order.
    """

    def __init__(self) -> None:
        self.events: list[Event] = []

    def record(self, event: Event) -> None:
        """Keep an event."""
        self.events.append(event)

    def reasons(self) -> list[str]:
        """Return the reasons of the events."""
        return [event.reason for event in self.events]


class Issuer:
    """Implements `TokenIssuer`.

    Attributes:
        requests: all requests, in order.
        seconds: the lifetime of the tokens.
        error: raised instead of issuing a token, if it is set.
    """

    def __init__(self) -> None:
        self.requests: list[TokenKey] = []
        self.seconds = 600.0
        self.error: KeyferryError | None = None

    async def issue(self, key: TokenKey) -> Token:
        """Issue a token."""
        self.requests.append(key)
        if self.error is not None:
            raise self.error
        return Token(f"canary-token-{len(self.requests)}", START, self.seconds)


class MemoryProviders(Providers):
    """The providers of the controller: a scripted one, which is built in or external.

    Attributes:
        scripted: the provider.
        named: the other names of its files.
        is_external: whether it is behind a socket.
        removed: the target paths that were released, and whether leases were revoked.
    """

    def __init__(self) -> None:
        self.scripted = ScriptedProvider()
        self.named: tuple[NamedFile, ...] = ()
        self.is_external = False
        self.removed: list[tuple[str, bool]] = []

    def resolve(self, name: str) -> ResolvedProvider:
        """Return the provider, whatever its name."""

        async def named_files(_: Mapping[str, str]) -> tuple[NamedFile, ...]:
            return self.named

        return ResolvedProvider(name, self.scripted.mount, self.is_external, named_files)

    def volume_removed(self, target_path: str, *, unpublished: bool) -> None:
        """Note that a SecretSync was removed."""
        self.removed.append((target_path, unpublished))


class MemoryCredentials:
    """Implements `CredentialReader`.

    Attributes:
        secrets: the data of the Secrets by name.
    """

    def __init__(self) -> None:
        self.secrets: dict[str, Mapping[str, str]] = {}

    async def read_credentials(self, namespace: str, name: str) -> Mapping[str, str]:
        """Return the data of a Secret."""
        return self.secrets[name]


@dataclass
class SyncWorld:
    """A cluster, a vault and a controller.

    Attributes:
        settings: of the controller. After a change, `restart` it.
    """

    settings: SyncControllerSettings = field(
        default_factory=lambda: SyncControllerSettings(pod=POD)
    )

    def __post_init__(self) -> None:
        self.clock = ManualClock()
        self.api = MemoryApi()
        self.view = MemoryView(self.api)
        self.statuses = MemoryStatuses(self.view)
        self.sink = RecordedEvents()
        self.issuer = Issuer()
        self.providers = MemoryProviders()
        self.credentials = MemoryCredentials()
        self.jobs = RecordingJobRunner()
        self.provider = self.providers.scripted
        self.provider.returns(content({"password": "canary-1"}))
        self.restart()

    def restart(self) -> None:
        """Start another process of the controller, which knows only what the cluster has."""
        self.registry = CollectorRegistry()
        self.metrics = SyncMetrics(self.registry, self.clock.wall)
        tokens = ServiceAccountTokens(self.issuer, self.settings.tokens, self.clock)
        self.reconciler = SyncReconciler(
            view=self.view,
            content=SyncContent(
                providers=self.providers,
                tokens=tokens,
                credentials=self.credentials,
                jobs=self.jobs,
                audit_log=NullAuditLog(),
                clock=self.clock,
                pod=self.settings.pod,
            ),
            secrets=SecretStore(self.api),
            reporter=SyncReporter(
                view=self.view,
                statuses=self.statuses,
                event_sink=self.sink,
                metrics=self.metrics,
                settings=self.settings,
                clock=self.clock,
            ),
            providers=self.providers,
            jobs=self.jobs,
            metrics=self.metrics,
            settings=self.settings,
            clock=self.clock,
        )

    # --- the cluster -----------------------------------------------------------------------------

    def add_sync(self, sync: SecretSync | None = None) -> SecretSync:
        """Create or edit a SecretSync; its status stays."""
        made = sync or secret_sync()
        before = self.view.syncs.get(made.ref.key)
        if before is not None and before.ref.uid == made.ref.uid:
            made = replace(made, status=before.status)
        self.view.syncs[made.ref.key] = made
        return made

    def remove_sync(self, name: str = "web") -> None:
        """Delete a SecretSync."""
        del self.view.syncs[UPSTREAM_GROUP, "shop", name]

    def add_class(self, spc: SecretProviderClass | None = None) -> SecretProviderClass:
        """Create or edit a SecretProviderClass."""
        made = spc or sync_class()
        self.view.spcs[made.namespace, made.name] = made
        return made

    def remove_class(self, name: str = "vault") -> None:
        """Delete a SecretProviderClass."""
        del self.view.spcs["shop", name]

    def edit_secret(self, patch: Mapping[str, Any], name: str = "web") -> None:
        """Change a Secret, as `kubectl edit` does."""
        self.api.objects.merge(("secrets", "shop", name), patch, "kubectl-edit")

    def delete_secret(self, name: str = "web") -> None:
        """Delete a Secret."""
        self.api.objects.delete(("secrets", "shop", name))

    # --- the controller --------------------------------------------------------------------------

    async def reconcile(self, name: str = "web", *, group: SyncGroup = UPSTREAM_GROUP) -> Result:
        """Reconcile a SecretSync."""
        return await self.reconciler.reconcile((group, "shop", name))

    async def refresh(self, seconds: float = 3600.0) -> Result:
        """Reconcile a SecretSync after a whole interval."""
        self.clock.now += seconds
        return await self.reconcile()

    # --- what became of it -----------------------------------------------------------------------

    def secret(self, name: str = "web") -> dict[str, Any] | None:
        """Return a Secret, or None."""
        key = "secrets", "shop", name
        return self.api.objects.manifest(key) if key in self.api.objects.stored else None

    def data(self, name: str = "web") -> dict[str, str]:
        """Return the decoded data of a Secret."""
        found = self.secret(name)
        assert found is not None
        return {key: b64decode(value).decode() for key, value in found["data"].items()}

    def status(self, name: str = "web") -> SyncStatus:
        """Return the status of a SecretSync."""
        return self.view.syncs[UPSTREAM_GROUP, "shop", name].status

    def condition(self, type_: str = "Ready", name: str = "web") -> str:
        """Return status and reason of a condition: `True SecretUpToDate`; "" without it."""
        found = self.status(name).condition(type_)
        return f"{found.status.value} {found.reason}" if found else ""

    def message(self, name: str = "web") -> str:
        """Return the message of the condition Ready."""
        found = self.status(name).condition("Ready")
        assert found is not None
        return found.message

    def take_events(self) -> list[str]:
        """Return each new event as `TYPE REASON KIND/NAME: MESSAGE`."""
        lines = []
        for event in self.sink.events:
            about: Any = event.involved_object
            kind = getattr(about, "kind", "SecretProviderClass")
            where = f"{kind}/{about.name}"
            lines.append(f"{event.type.value} {event.reason} {where}: {event.message}")
        self.sink.events.clear()
        return lines
