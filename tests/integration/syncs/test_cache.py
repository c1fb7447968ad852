"""keyferry.kubernetes.api.syncs.cache: what the controller knows of the cluster, and its events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from keyferry.errors import ClassInvalidError
from keyferry.kubernetes.api.client import KubeApi
from keyferry.kubernetes.api.syncs.cache import SyncCache
from keyferry.kubernetes.api.syncs.status import write_status
from keyferry.kubernetes.syncs.changes import (
    ClassChanged,
    Reconnected,
    ServiceAccountChanged,
    SyncChanged,
    SyncEvent,
    SyncSecretChanged,
)
from keyferry.kubernetes.syncs.groups import GKE_GROUP, UPSTREAM_GROUP
from keyferry.kubernetes.syncs.objects import Condition, ConditionStatus, SyncStatus
from keyferry.records import replace
from tests.fakes.kube_api import KubeApiServer, class_manifest
from tests.fakes.kube_objects import GKE_SYNCS
from tests.fakes.log import captured_log
from tests.fakes.syncs import sync_manifest

WEB = (UPSTREAM_GROUP, "shop", "web")


def secret_manifest(name: str = "web", namespace: str = "shop", **labels: str) -> dict[str, Any]:
    labels = labels or {"secrets-store.sync.x-k8s.io": ""}
    metadata = {"name": name, "namespace": namespace, "labels": labels}
    return {"metadata": metadata, "type": "Opaque", "data": {"password": "Y2FuYXJ5"}}


def account_manifest(allowed: str = "true", **annotations: str) -> dict[str, Any]:
    metadata = {
        "name": "web",
        "namespace": "shop",
        "labels": {"secret-sync.x-k8s.io/allowed": allowed},
        "annotations": annotations,
    }
    return {"metadata": metadata}


class Watched:
    """A running cache, and the events since the last call of `next`."""

    def __init__(self, cache: SyncCache) -> None:
        self.cache = cache
        self.events: list[SyncEvent] = []
        cache.subscribe(self.events.append)

    async def next(self, kind: type[SyncEvent]) -> Any:
        """Wait for an event of a kind, and forget the ones before it."""
        while True:
            for at, event in enumerate(self.events):
                if isinstance(event, kind):
                    del self.events[: at + 1]
                    return event
            await asyncio.sleep(0.005)


@asynccontextmanager
async def watched(
    api: KubeApi,
    *,
    namespaces: frozenset[str] | None = None,
    watches_service_accounts: bool = False,
    absent_seconds: float = 0.02,
) -> AsyncIterator[Watched]:
    cache = SyncCache(
        api,
        groups=(UPSTREAM_GROUP, GKE_GROUP),
        namespaces=namespaces,
        watches_service_accounts=watches_service_accounts,
        backoff=lambda _: 0.01,
        absent_seconds=absent_seconds,
    )
    running = Watched(cache)
    cache.start()
    try:
        await cache.wait_synced()
        yield running
    finally:
        await cache.stop()


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - the server sends no notification
        await asyncio.sleep(0.005)


# --- SecretSyncs ----------------------------------------------------------------------------------


async def test_secret_syncs_of_all_groups_are_cached(server: KubeApiServer, api: KubeApi) -> None:
    """A SecretSync of one group is another one than that of the other group."""
    server.put("secretsyncs", sync_manifest())
    server.put(GKE_SYNCS, sync_manifest(api_version=str(GKE_GROUP), serviceAccountName="gke"))
    async with watched(api) as running:
        cache = running.cache
        assert {sync.ref.key for sync in cache.syncs()} == {WEB, (GKE_GROUP, "shop", "web")}
        gke = cache.sync((GKE_GROUP, "shop", "web"))
        assert gke is not None
        assert gke.service_account == "gke"
        assert cache.sync((UPSTREAM_GROUP, "shop", "other")) is None
        assert cache.problem() is None
        assert cache.absent_groups() == ()


async def test_changes_of_a_secret_sync_are_events(server: KubeApiServer, api: KubeApi) -> None:
    """A new one, an edited one, an annotated one and a deleted one."""
    async with watched(api) as running:
        server.put("secretsyncs", sync_manifest())
        created = await running.next(SyncChanged)
        assert (created.before, created.after.generation) == (None, 1)
        server.put("secretsyncs", sync_manifest(forceSynchronization="x2"))
        edited = await running.next(SyncChanged)
        assert (edited.before, edited.after.force_synchronization) == (created.after, "x2")
        annotations = {"keyferry.dev/refresh": "1"}
        server.put("secretsyncs", sync_manifest(annotations=annotations, forceSynchronization="x2"))
        annotated = await running.next(SyncChanged)
        assert annotated.after.options.refresh_mark == "1"
        assert annotated.after.generation == edited.after.generation
        server.remove("secretsyncs", "shop", "web")
        deleted = await running.next(SyncChanged)
        assert (deleted.before, deleted.after) == (annotated.after, None)
        assert deleted.sync == annotated.after


async def test_status_of_the_controller_is_no_event(server: KubeApiServer, api: KubeApi) -> None:
    """Neither when it is written, nor when the watch reports it."""
    server.put("secretsyncs", sync_manifest())
    async with watched(api) as running:
        sync = running.cache.sync(WEB)
        assert sync is not None
        status = SyncStatus((Condition("Ready", ConditionStatus.TRUE, "Ok"),), sync_hash="kf1:x")
        running.events.clear()
        written = await write_status(api, sync, status)
        assert written is not None
        running.cache.upsert_status(written)
        stored = running.cache.sync(WEB)
        assert stored is not None
        assert stored.status.sync_hash == "kf1:x"
        assert stored.resource_version == written.resource_version
        server.put("secretproviderclasses", class_manifest("web"))
        await running.next(ClassChanged)
        server.put("secretsyncs", sync_manifest("other"))
        changed = await running.next(SyncChanged)
        assert changed.after.ref.name == "other"
        reported = running.cache.sync(WEB)
        assert reported is not None
        assert reported.status.sync_hash == "kf1:x"


async def test_status_of_a_predecessor_is_not_stored(server: KubeApiServer, api: KubeApi) -> None:
    """The SecretSync was deleted and created again while it was synced."""
    server.put("secretsyncs", sync_manifest())
    async with watched(api) as running:
        before = running.cache.sync(WEB)
        assert before is not None
        written = replace(before, status=SyncStatus(sync_hash="kf1:x"))
        running.events.clear()
        server.remove("secretsyncs", "shop", "web")
        await running.next(SyncChanged)
        running.cache.upsert_status(written)
        assert running.cache.sync(WEB) is None
        server.put("secretsyncs", sync_manifest())
        await running.next(SyncChanged)
        running.cache.upsert_status(written)
        again = running.cache.sync(WEB)
        assert again is not None
        assert again.status.sync_hash == ""


async def test_status_that_was_written_does_not_hide_a_newer_spec(
    server: KubeApiServer, api: KubeApi
) -> None:
    """The answer to the write may arrive after a later change."""
    server.put("secretsyncs", sync_manifest())
    async with watched(api) as running:
        before = running.cache.sync(WEB)
        assert before is not None
        running.events.clear()
        server.put("secretsyncs", sync_manifest(forceSynchronization="x2"))
        await running.next(SyncChanged)
        running.cache.upsert_status(replace(before, status=SyncStatus(sync_hash="kf1:x")))
        after = running.cache.sync(WEB)
        assert after is not None
        assert after.force_synchronization == "x2"
        assert after.status.sync_hash == "kf1:x"
        assert running.events == []


async def test_invalid_secret_sync_is_cached_with_its_problem(
    server: KubeApiServer, api: KubeApi
) -> None:
    """The controller reports it."""
    server.put("secretsyncs", sync_manifest(secretObject={"data": []}))
    async with watched(api) as running:
        sync = running.cache.sync(WEB)
        assert sync is not None
        assert sync.invalid is not None


# --- groups that the cluster lacks ----------------------------------------------------------------


async def test_group_without_a_crd_is_no_problem(server: KubeApiServer, api: KubeApi) -> None:
    """It is looked for again, without a warning each time."""
    server.absent.add(GKE_SYNCS)
    server.put("secretsyncs", sync_manifest())
    with captured_log() as log:
        async with watched(api) as running:
            assert running.cache.problem() is None
            assert running.cache.absent_groups() == (GKE_GROUP,)
            looks = server.missed
            await until(lambda: server.missed > looks + 3)
            server.absent.clear()
            server.put(GKE_SYNCS, sync_manifest("gke"))
            await until(lambda: len(running.cache.syncs()) == 2)
            assert running.cache.absent_groups() == ()
            running.events.clear()
            server.absent.add(GKE_SYNCS)
            server.remove(GKE_SYNCS, "shop", "gke")
            server.break_streams()
            await until(lambda: running.cache.absent_groups() == (GKE_GROUP,))
            assert [sync.ref.name for sync in running.cache.syncs()] == ["web"]
    assert log.getvalue().count("the cluster lacks a resource") == 2
    assert "refuses to" not in log.getvalue()


async def test_cache_is_ready_without_any_secret_sync(server: KubeApiServer, api: KubeApi) -> None:
    """Also if the cluster lacks all groups."""
    server.absent |= {GKE_SYNCS, "secretsyncs"}
    async with watched(api) as running:
        assert running.cache.problem() is None
        assert running.cache.syncs() == ()
        assert running.cache.absent_groups() == (UPSTREAM_GROUP, GKE_GROUP)


async def test_cache_is_not_ready_before_its_first_list(
    server: KubeApiServer, api: KubeApi
) -> None:
    """A missing permission for SecretSyncs is a problem."""
    server.forbidden |= {"list secretsyncs", "watch secretsyncs"}
    cache = SyncCache(
        api,
        groups=(UPSTREAM_GROUP,),
        namespaces=None,
        watches_service_accounts=False,
        backoff=lambda _: 0.01,
    )
    cache.start()
    try:
        await asyncio.sleep(0.1)
        assert cache.problem() == (
            "the SecretSyncs of secret-sync.x-k8s.io/v1alpha1 of the cluster are not listed yet"
        )
        server.forbidden.clear()
        await cache.wait_synced()
        assert cache.problem() is None
    finally:
        await cache.stop()


# --- SecretProviderClasses ------------------------------------------------------------------------


async def test_changes_of_a_class_are_events(server: KubeApiServer, api: KubeApi) -> None:
    """An invalid one is an error for those who use it."""
    async with watched(api) as running:
        assert running.cache.class_("shop", "web") is None
        server.put("secretproviderclasses", class_manifest("web"))
        created = await running.next(ClassChanged)
        assert (created.namespace, created.name, created.before) == ("shop", "web", None)
        assert running.cache.class_("shop", "web") == created.after
        invalid = class_manifest("web") | {"spec": {"provider": 3}}
        server.put("secretproviderclasses", invalid)
        changed = await running.next(ClassChanged)
        assert (changed.before, changed.after) == (created.after, None)
        with pytest.raises(ClassInvalidError, match=r"spec\.provider is a number"):
            running.cache.class_("shop", "web")
        server.remove("secretproviderclasses", "shop", "web")
        removed = await running.next(ClassChanged)
        assert (removed.name, removed.before, removed.after) == ("web", None, None)


# --- Secrets --------------------------------------------------------------------------------------


async def test_labelled_secrets_are_watched_without_their_data(
    server: KubeApiServer, api: KubeApi
) -> None:
    """With any value of the label; others do not arrive."""
    server.put("secrets", secret_manifest())
    server.put("secrets", secret_manifest("other", app="web"))
    async with watched(api) as running:
        first = running.cache.secret_version("shop", "web")
        assert first is not None
        assert running.cache.watches_secrets("any")
        assert running.cache.secret_version("shop", "other") is None
        running.events.clear()
        edited = secret_manifest(**{"secrets-store.sync.x-k8s.io": "", "app": "web"})
        server.put("secrets", edited)
        changed = await running.next(SyncSecretChanged)
        assert (changed.namespace, changed.name, changed.deleted) == ("shop", "web", False)
        assert changed.version == running.cache.secret_version("shop", "web") != first
        server.remove("secrets", "shop", "web")
        removed = await running.next(SyncSecretChanged)
        assert removed.deleted
        assert removed.uid == changed.uid
        assert running.cache.secret_version("shop", "web") is None


async def test_secret_without_its_label_counts_as_deleted(
    server: KubeApiServer, api: KubeApi
) -> None:
    """Somebody has removed the label."""
    server.put("secrets", secret_manifest())
    async with watched(api) as running:
        running.events.clear()
        server.put("secrets", secret_manifest(app="web"))
        assert (await running.next(SyncSecretChanged)).deleted


async def test_secrets_are_watched_only_in_the_namespaces_of_the_controller(
    server: KubeApiServer, api: KubeApi
) -> None:
    """A namespace without permission does not hold up the others."""
    server.put("secrets", secret_manifest(namespace="shop"))
    server.put("secrets", secret_manifest(namespace="other"))
    async with watched(api, namespaces=frozenset({"shop", "more"})) as running:
        assert running.cache.secret_version("shop", "web") is not None
        assert running.cache.secret_version("other", "web") is None
        assert running.cache.watches_secrets("shop")
        assert not running.cache.watches_secrets("other")
    server.forbidden |= {"list secrets", "watch secrets"}
    async with watched(api, namespaces=frozenset({"shop"})) as running:
        assert not running.cache.watches_secrets("shop")
        assert running.cache.problem() is None
        running.events.clear()
        server.forbidden.clear()
        await running.next(Reconnected)
        assert running.cache.watches_secrets("shop")


# --- service accounts -----------------------------------------------------------------------------


async def test_service_accounts_permit_secret_syncs(server: KubeApiServer, api: KubeApi) -> None:
    """All of the namespace, or those of the annotation."""
    names = {"secret-sync.x-k8s.io/secret-syncs": "web, api"}
    async with watched(api, watches_service_accounts=True) as running:
        assert running.cache.service_account("shop", "web") is None
        server.put("serviceaccounts", account_manifest())
        event = await running.next(ServiceAccountChanged)
        assert event.after == running.cache.service_account("shop", "web")
        assert event.after.permits("anything")
        server.put("serviceaccounts", account_manifest(**names))
        event = await running.next(ServiceAccountChanged)
        assert event.after.permits("web")
        assert event.after.permits("api")
        assert not event.after.permits("other")
        server.put("serviceaccounts", account_manifest(**dict.fromkeys(names, "")))
        event = await running.next(ServiceAccountChanged)
        assert not event.after.permits("web"), "an empty list names none"
        server.put("serviceaccounts", account_manifest("false"))
        event = await running.next(ServiceAccountChanged)
        assert (event.namespace, event.name, event.after) == ("shop", "web", None)
        assert running.cache.service_account("shop", "web") is None


async def test_service_accounts_are_not_watched_unless_asked_for(
    server: KubeApiServer, api: KubeApi
) -> None:
    """The permission may be missing."""
    async with watched(api):
        assert "list serviceaccounts" not in server.requests


# --- outages --------------------------------------------------------------------------------------


async def test_cache_survives_an_outage(server: KubeApiServer, api: KubeApi) -> None:
    """It serves what it has, and reports when the API is back."""
    server.put("secretsyncs", sync_manifest())
    async with watched(api) as running:
        assert not any(isinstance(event, Reconnected) for event in running.events)
        await server.stop()
        assert running.cache.sync(WEB) is not None
        running.events.clear()
        server.put("secretsyncs", sync_manifest("new"))
        await asyncio.sleep(0.1)
        await server.start()
        # Each watch reports that it is back, before or after what has changed.
        await until(lambda: any(isinstance(event, Reconnected) for event in running.events))
        assert (await running.next(SyncChanged)).after.ref.name == "new"


async def test_expired_history_is_listed_again(server: KubeApiServer, api: KubeApi) -> None:
    """What was deleted meanwhile is reported."""
    server.put("secretsyncs", sync_manifest())
    async with watched(api) as running:
        running.events.clear()
        server.remove("secretsyncs", "shop", "web")
        server.objects.compact()
        server.break_streams()
        assert (await running.next(SyncChanged)).after is None


async def test_many_secret_syncs_are_listed_page_by_page(
    server: KubeApiServer, api: KubeApi
) -> None:
    """If the API server does not stream lists. Each page is parsed before the next one."""
    server.streams_lists = False
    server.max_page = 7
    for number in range(30):
        server.put("secretsyncs", sync_manifest(f"web-{number}"))
    async with watched(api) as running:
        assert len(running.cache.syncs()) == 30
        assert server.requests.count("list secretsyncs") == 5
