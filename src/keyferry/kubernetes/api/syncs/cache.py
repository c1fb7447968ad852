"""Caches what the SecretSync controller reads of the cluster, with reflectors.

SecretSyncs and SecretProviderClasses are cached for the whole cluster. Of Secrets and service
accounts only metadata is requested, and only in the namespaces of the controller.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

from msgspec import Struct

from keyferry.aio.tasks import spawn
from keyferry.errors import ClassInvalidError
from keyferry.formats.fields import Field, FieldTypeError
from keyferry.kubernetes.api.client import ListOptions
from keyferry.kubernetes.api.cluster_cache import CLASSES, class_or_error
from keyferry.kubernetes.api.resources import (
    SecretProviderClassResource,
    SecretResource,
    ServiceAccountResource,
)
from keyferry.kubernetes.api.syncs.resources import sync_resource
from keyferry.kubernetes.api.watches.list_watcher import ApiListWatcher
from keyferry.kubernetes.api.watches.reflector import Reflector, api_backoff
from keyferry.kubernetes.markings import SYNC_LABEL
from keyferry.kubernetes.syncs.changes import (
    ClassChanged,
    Reconnected,
    ServiceAccountChanged,
    SyncChanged,
    SyncSecretChanged,
)
from keyferry.kubernetes.syncs.codec import parse_sync
from keyferry.kubernetes.syncs.objects import OPT_IN_LABEL, OPT_IN_NAMES, ServiceAccountOptIn
from keyferry.kubernetes.syncs.sync_errors import SyncInvalidError
from keyferry.records import replace
from keyferry.telemetry.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from keyferry.kubernetes.api.client import KubeApi
    from keyferry.kubernetes.object_codec import Manifest
    from keyferry.kubernetes.objects import SecretProviderClass
    from keyferry.kubernetes.syncs.changes import SyncEvent, SyncEventHandler
    from keyferry.kubernetes.syncs.groups import SyncGroup
    from keyferry.kubernetes.syncs.objects import SecretSync, SyncKey

T = TypeVar("T")

ABSENT_SECONDS = 30.0
"""Pause between two looks for an API group whose CRD is not installed."""

_log = get_logger("syncs")


class CachedClass(Struct, frozen=True):
    """A SecretProviderClass, or why it is invalid."""

    namespace: str
    name: str
    valid: SecretProviderClass | None
    problem: str = ""
    remedy: str = ""


class _SecretVersion(Struct, frozen=True):
    """What is cached of a Secret."""

    namespace: str
    name: str
    uid: str
    resource_version: str


class SyncCache:
    """The SecretSyncs of the cluster, and what they refer to. Runs from `start` to `stop`.

    Args:
        api: the Kubernetes API.
        groups: API groups that serve SecretSyncs; those that the cluster lacks have none.
        namespaces: where Secrets and service accounts are watched; None for all.
        watches_service_accounts: whether to watch which service accounts permit SecretSyncs.
        backoff: returns the seconds to wait after `n` consecutive failures.
        absent_seconds: pause between two looks for a group that the cluster lacks.
    """

    def __init__(
        self,
        api: KubeApi,
        *,
        groups: Sequence[SyncGroup],
        namespaces: frozenset[str] | None,
        watches_service_accounts: bool,
        backoff: Callable[[int], float] = api_backoff,
        absent_seconds: float = ABSENT_SECONDS,
    ) -> None:
        self._api = api
        self._backoff = backoff
        self._handlers: list[SyncEventHandler] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._syncs: dict[SyncGroup, Reflector[SecretSync]] = {
            group: self._new_reflector(
                ListOptions(sync_resource(group)),
                _sync_parser(group),
                f"SecretSyncs of {group}",
                absent_seconds=absent_seconds,
            )
            for group in groups
        }
        self._classes: Reflector[CachedClass] = self._new_reflector(
            ListOptions(SecretProviderClassResource), _parse_class, CLASSES
        )
        scopes = ["*"] if namespaces is None else sorted(namespaces)
        self._secrets: dict[str, Reflector[_SecretVersion]] = {
            scope: self._new_reflector(
                ListOptions(SecretResource, scope, {SYNC_LABEL: None}, metadata_only=True),
                _parse_secret,
                f"Secrets {_scope_name(scope)}",
            )
            for scope in scopes
        }
        self._accounts: dict[str, Reflector[ServiceAccountOptIn]] = {
            scope: self._new_reflector(
                ListOptions(
                    ServiceAccountResource, scope, {OPT_IN_LABEL: "true"}, metadata_only=True
                ),
                parse_service_account,
                f"service accounts {_scope_name(scope)}",
            )
            for scope in (scopes if watches_service_accounts else ())
        }
        self._subscribe_to_reflectors()

    def start(self) -> None:
        """Start the reflectors."""
        for reflector in self._reflectors():
            self._tasks.append(spawn(reflector.run(), name=f"watch {reflector.name}"))

    async def stop(self) -> None:
        """Stop the reflectors."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    async def wait_synced(self) -> None:
        """Wait until SecretSyncs and SecretProviderClasses are listed, and the rest was tried.

        A namespace in which the controller lacks a permission does not hold up the others.
        """
        for reflector in self._required():
            await reflector.in_sync.wait()
        for reflector in self._reflectors():
            await reflector.has_tried.wait()

    def problem(self) -> str | None:
        """Return why the controller is not ready, or None."""
        for reflector in self._required():
            if not reflector.has_synced:
                return f"the {reflector.name} of the cluster are not listed yet"
        return None

    def absent_groups(self) -> tuple[SyncGroup, ...]:
        """Return the API groups that the cluster lacks, as far as is known."""
        return tuple(group for group, reflector in self._syncs.items() if reflector.is_absent)

    def subscribe(self, handler: SyncEventHandler) -> None:
        """Call `handler` with every later event; handlers run in the order of subscription."""
        self._handlers.append(handler)

    # --- cached objects --------------------------------------------------------------------------

    def syncs(self) -> tuple[SecretSync, ...]:
        """Return all SecretSyncs."""
        return tuple(sync for reflector in self._syncs.values() for sync in reflector.items())

    def sync(self, key: SyncKey) -> SecretSync | None:
        """Return a SecretSync, or None; see `SyncRef.key`."""
        group, namespace, name = key
        reflector = self._syncs.get(group)
        return None if reflector is None else reflector.get(namespace, name)

    def class_(self, namespace: str, name: str) -> SecretProviderClass | None:
        """Return a SecretProviderClass, or None if it does not exist.

        Raises:
            ClassInvalidError: a field has the wrong type.
        """
        found = self._classes.get(namespace, name)
        if found is None:
            return None
        if found.valid is None:
            raise ClassInvalidError(found.problem, found.remedy)
        return found.valid

    def classes(self, namespace: str) -> tuple[SecretProviderClass, ...]:
        """Return the valid SecretProviderClasses of a namespace."""
        return tuple(
            found.valid
            for found in self._classes.items()
            if found.namespace == namespace and found.valid is not None
        )

    def all_classes(self) -> tuple[CachedClass, ...]:
        """Return all SecretProviderClasses of the cluster."""
        return tuple(self._classes.items())

    def secret_version(self, namespace: str, name: str) -> str | None:
        """Return `uid/resourceVersion` of a Secret with the label of the controller, or None.

        None also means that its namespace is not watched: see `watches_secrets`.
        """
        reflector = self._secrets.get("*") or self._secrets.get(namespace)
        found = None if reflector is None else reflector.get(namespace, name)
        return None if found is None else f"{found.uid}/{found.resource_version}"

    def watches_secrets(self, namespace: str) -> bool:
        """Return whether the Secrets of a namespace are known: it is watched, and was listed."""
        reflector = self._secrets.get("*") or self._secrets.get(namespace)
        return reflector is not None and reflector.has_synced

    def service_account(self, namespace: str, name: str) -> ServiceAccountOptIn | None:
        """Return what a service account permits; None if it permits nothing, or is not watched."""
        reflector = self._accounts.get("*") or self._accounts.get(namespace)
        return None if reflector is None else reflector.get(namespace, name)

    def upsert_status(self, written: SecretSync) -> None:
        """Store the status that `write_status` has written, before the watch reports it.

        The spec stays that of the watch, which may be newer.
        """
        if (reflector := self._syncs.get(written.ref.group)) is not None:
            reflector.amend(
                written.ref.namespace, written.ref.name, lambda sync: _with_status(sync, written)
            )

    # --- reflectors ------------------------------------------------------------------------------

    def _new_reflector(
        self,
        options: ListOptions,
        parse: Callable[[Manifest], T | None],
        name: str,
        *,
        absent_seconds: float | None = None,
    ) -> Reflector[T]:
        return Reflector(
            ApiListWatcher(self._api, options, paged=True),
            parse,
            name=name,
            backoff=self._backoff,
            absent_seconds=absent_seconds,
        )

    def _required(self) -> Iterator[Reflector[Any]]:
        """Yield the reflectors without which the controller cannot work."""
        yield from self._syncs.values()
        yield self._classes

    def _reflectors(self) -> Iterator[Reflector[Any]]:
        yield from self._required()
        yield from self._secrets.values()
        yield from self._accounts.values()

    def _subscribe_to_reflectors(self) -> None:
        for syncs in self._syncs.values():
            syncs.on_change.append(self._notify_sync)
        self._classes.on_change.append(self._notify_class)
        for secrets in self._secrets.values():
            secrets.on_change.append(self._notify_secret)
        for accounts in self._accounts.values():
            accounts.on_change.append(self._notify_account)
        for reflector in self._reflectors():
            reflector.on_sync.append(self._reconnection_notifier(reflector))

    def _reconnection_notifier(self, reflector: Reflector[Any]) -> Callable[[], None]:
        def notify() -> None:
            if reflector.is_recovering:
                self._notify(Reconnected())

        return notify

    def _notify_sync(self, before: SecretSync | None, after: SecretSync | None) -> None:
        self._notify(SyncChanged(before, after))

    def _notify_class(self, before: CachedClass | None, after: CachedClass | None) -> None:
        found = after or before
        assert found is not None
        self._notify(
            ClassChanged(
                found.namespace,
                found.name,
                before.valid if before else None,
                after.valid if after else None,
            )
        )

    def _notify_secret(self, before: _SecretVersion | None, after: _SecretVersion | None) -> None:
        found = after or before
        assert found is not None
        self._notify(
            SyncSecretChanged(
                found.namespace,
                found.name,
                deleted=after is None,
                uid=found.uid,
                resource_version=found.resource_version,
            )
        )

    def _notify_account(
        self, before: ServiceAccountOptIn | None, after: ServiceAccountOptIn | None
    ) -> None:
        found = after or before
        assert found is not None
        self._notify(ServiceAccountChanged(found.namespace, found.name, after))

    def _notify(self, event: SyncEvent) -> None:
        for handler in self._handlers:
            handler(event)


def _scope_name(scope: str) -> str:
    return "of all namespaces" if scope == "*" else f"of {scope}"


def _with_status(sync: SecretSync, written: SecretSync) -> SecretSync:
    if sync.ref.uid != written.ref.uid:
        return sync
    return replace(sync, status=written.status, resource_version=written.resource_version)


def _sync_parser(group: SyncGroup) -> Callable[[Manifest], SecretSync | None]:
    def parse(manifest: Manifest) -> SecretSync | None:
        try:
            return parse_sync(manifest, group)
        except SyncInvalidError as error:
            _log.warning("SecretSync ignored", error=str(error))
            return None

    return parse


def _parse_class(manifest: Manifest) -> CachedClass | None:
    namespace, name = _text(manifest, "namespace"), _text(manifest, "name")
    if not namespace or not name:
        return None
    found = class_or_error(manifest)
    if isinstance(found, ClassInvalidError):
        return CachedClass(namespace, name, None, found.problem, found.remedy)
    return CachedClass(namespace, name, found)


def _parse_secret(manifest: Manifest) -> _SecretVersion:
    return _SecretVersion(
        namespace=_text(manifest, "namespace"),
        name=_text(manifest, "name"),
        uid=_text(manifest, "uid"),
        resource_version=_text(manifest, "resourceVersion"),
    )


def parse_service_account(manifest: Manifest) -> ServiceAccountOptIn | None:
    """Return what the metadata of a service account with the label of the opt-in permits."""
    try:
        annotations = Field(manifest)["metadata"]["annotations"].text_mapping()
    except FieldTypeError:
        return None
    listed = annotations.get(OPT_IN_NAMES)
    names = None if listed is None else (name.strip() for name in listed.split(","))
    return ServiceAccountOptIn(
        namespace=_text(manifest, "namespace"),
        name=_text(manifest, "name"),
        only=None if names is None else frozenset(filter(None, names)),
    )


def _text(manifest: Manifest, field: str) -> str:
    try:
        return Field(manifest)["metadata"][field].text()
    except FieldTypeError:
        return ""
