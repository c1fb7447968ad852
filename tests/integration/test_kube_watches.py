"""Watches of a Kubernetes API: bookmarks, streaming lists, and servers without them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from keyferry.aio.clock import SystemClock
from keyferry.kubernetes.api.client import ListOptions, open_api
from keyferry.kubernetes.api.config import load_config
from keyferry.kubernetes.api.resources import SecretProviderClassResource
from keyferry.kubernetes.api.store import KubeStore, open_kube_store
from keyferry.kubernetes.api.watches.changes import (
    ANY_VERSION,
    Began,
    Changed,
    ListFirst,
    Progress,
)
from keyferry.kubernetes.api.watches.list_watcher import ApiListWatcher
from keyferry.kubernetes.cluster import ClusterEvent, SpcChanged
from tests.fakes.kube_api import KubeApiServer, class_manifest, pod_manifest, running_api
from tests.fakes.kube_node import wait_until
from tests.fakes.kube_objects import StatusError
from tests.fakes.log import captured_log


@pytest.fixture(params=["streaming lists", "lists", "lists with an old etcd"])
async def api(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[KubeApiServer]:
    """A server that streams lists, or does not, and a pod of node `n` with a volume."""
    async with running_api(tmp_path) as running:
        running.streams_lists = request.param == "streaming lists"
        running.refuses_lists_late = request.param == "lists with an old etcd"
        running.put("secretproviderclasses", class_manifest("web"))
        running.put("pods", pod_manifest("web-0", "n"))
        yield running


@pytest.fixture
async def store(api: KubeApiServer) -> AsyncIterator[KubeStore]:
    """A synced store with short backoff."""
    async with open_kube_store(
        api.kubeconfig, node="n", clock=SystemClock(), backoff=lambda _: 0.01
    ) as opened:
        await opened.wait_synced()
        yield opened


async def test_rollover_after_changes_of_others_and_compaction_does_not_list(
    api: KubeApiServer, store: KubeStore
) -> None:
    """The next watch starts at the last bookmark of the one before."""
    assert store.problem() is None
    api.list_versions.clear()
    for number in range(5):
        for other in range(10):
            name = f"e-{number}-{other}"
            api.put("serviceaccounts", {"metadata": {"namespace": "other", "name": name}})
        await asyncio.sleep(0.05)
        watches = _watches(api)
        assert len(watches) == 3
        api.end_streams()
        api.objects.compact()
        await wait_until(
            lambda: all(number > watches[kind] for kind, number in _watches(api).items()),  # noqa: B023
            "new watches",
        )
        await asyncio.sleep(0.05)
    assert [] == api.list_versions


def _watches(api: KubeApiServer) -> Counter[str]:
    """Count the watches so far by kind."""
    return Counter(request for request in api.requests if request.startswith("watch "))


async def test_server_without_streaming_lists_is_asked_only_at_first(
    api: KubeApiServer, store: KubeStore
) -> None:
    """Later lists do not try again."""
    assert store.problem() is None
    listed = Counter(api.requests)["list pods"]
    assert (0 if api.streams_lists else 1) == listed
    refused = api.refused_lists
    await asyncio.sleep(0.05)
    api.objects.compact()
    api.sends_bookmarks = False
    api.list_versions.clear()
    api.put("serviceaccounts", {"metadata": {"namespace": "other", "name": "e"}})
    api.objects.compact()
    api.break_streams()
    await wait_until(lambda: len(api.list_versions) > 0 or api.streams_lists, "a list")
    assert refused == api.refused_lists


async def test_lists_are_answered_by_the_watch_cache(api: KubeApiServer, store: KubeStore) -> None:
    """The first may show any state unless it is streamed; a later one none before what was seen."""
    assert store.problem() is None
    assert ("" if api.streams_lists else "0") == api.list_versions[-1]
    api.list_versions.clear()
    api.expires_by_event = False
    api.put("serviceaccounts", {"metadata": {"namespace": "other", "name": "e"}})
    api.objects.compact()
    api.break_streams()
    await wait_until(lambda: bool(api.list_versions), "a list")
    assert all(int(version) > 100 for version in api.list_versions)


@pytest.mark.parametrize("expires", [False, True])
async def test_pages_of_a_long_list_are_reported_one_by_one(tmp_path: Path, expires: bool) -> None:
    """As client-go: when a page has expired, another list begins, without pages."""
    async with running_api(tmp_path) as api, open_api(load_config(api.kubeconfig)) as client:
        api.streams_lists, api.max_page, api.pages_expire = False, 2, expires
        for number in range(5):
            api.put("secretproviderclasses", class_manifest(f"c-{number}"))
        lists = ApiListWatcher(client, ListOptions(SecretProviderClassResource), paged=True)
        names: list[str] = []
        begun = 0
        async for change in lists.watch(ListFirst(ANY_VERSION)):
            match change:
                case Began():
                    names.clear()
                    begun += 1
                case Changed(manifest):
                    names.append(str(manifest["metadata"]["name"]))  # type: ignore[index, call-overload]
                case Progress(ends_list=True):
                    break
        assert [f"c-{number}" for number in range(5)] == names
        assert 3 == api.requests.count("list secretproviderclasses")
        assert (2 if expires else 1) == begun


async def test_only_namespaces_of_pods_with_volumes_are_watched(
    api: KubeApiServer, store: KubeStore
) -> None:
    """SecretProviderClasses and pod statuses of other namespaces do not reach the node."""
    assert {"secretproviderclasses shop", "secretproviderclasspodstatuses shop"} == {
        watched for watched in api.watched if not watched.startswith("pods")
    }
    plain = pod_manifest("plain", "n", namespace="plain")
    plain["spec"]["volumes"] = []
    api.put("pods", plain)
    api.put("pods", pod_manifest("elsewhere", "other-node", namespace="elsewhere"))
    api.put("pods", pod_manifest("web-0", "n", namespace="billing"))
    await wait_until(lambda: "secretproviderclasses billing" in api.watched, "the watch")
    assert {"shop", "billing", "*"} == {watched.split()[1] for watched in api.watched}


async def test_publish_does_not_wait_for_the_watch_of_its_namespace(
    api: KubeApiServer, store: KubeStore
) -> None:
    """The SecretProviderClass is fetched. The watch reports an edit that came after that."""
    api.put("secretproviderclasses", class_manifest("web", "billing"))
    api.refusals["watch secretproviderclasses"] = StatusError(500, "InternalError")
    events: list[ClusterEvent] = []
    store.cluster.subscribe(events.append)
    assert "azure" == (await store.get_class("billing", "web")).provider
    api.put("secretproviderclasses", class_manifest("web", "billing", "vault"))
    api.refusals.clear()

    def is_edit(event: ClusterEvent) -> bool:
        return isinstance(event, SpcChanged) and bool(event.before and event.after)

    await wait_until(lambda: any(map(is_edit, events)), "the edit")
    assert 1 == Counter(api.requests)["get secretproviderclasses"]
    assert "vault" == (await store.get_class("billing", "web")).provider


async def test_classes_of_a_namespace_that_is_not_watched_are_listed(
    api: KubeApiServer, store: KubeStore
) -> None:
    """A Secret must not be deleted because its SecretProviderClass is not cached."""
    api.put("secretproviderclasses", class_manifest("db", "billing"))
    assert () == store.cluster.classes("billing")
    assert ["db"] == [spc.name for spc in await store.cluster.list_classes("billing")]
    api.requests.clear()
    assert ["web"] == [spc.name for spc in await store.cluster.list_classes("shop")]
    assert [] == api.requests


async def test_driver_is_ready_without_permission_to_watch_pods(api: KubeApiServer) -> None:
    """Namespaces are then watched from the first publish."""
    api.forbidden |= {"list pods", "watch pods"}
    async with open_kube_store(
        api.kubeconfig, node="n", clock=SystemClock(), backoff=lambda _: 0.01
    ) as store:
        assert store.problem() == "the pods of this node are not listed yet"
        await wait_until(lambda: store.problem() is None, "the failure")
        await store.get_class("shop", "web")
        await wait_until(lambda: bool(store.cluster.classes("shop")), "the watch")


async def test_request_to_wait_before_a_watch_is_no_warning(api: KubeApiServer) -> None:
    """The API server sends 429 until it has read the objects of a CRD that was just created."""
    for verb in ("watch", "list"):
        api.refusals[f"{verb} secretproviderclasses"] = StatusError(429, "TooManyRequests")
    with captured_log() as log:
        async with open_kube_store(
            api.kubeconfig, node="n", clock=SystemClock(), backoff=lambda _: 0.5
        ) as store:
            await wait_until(lambda: "asks to wait" in log.getvalue(), "the refusal")
            api.refusals.clear()
            await store.wait_synced()
            await wait_until(lambda: "secretproviderclasses shop" in api.watched, "the watch")
        assert "watch failed" not in log.getvalue()


async def test_api_server_is_not_asked_again_before_the_time_that_it_names(
    api: KubeApiServer,
) -> None:
    """Otherwise it would ask to wait again, which is a warning."""
    for verb in ("watch", "list"):
        refusal = StatusError(429, "TooManyRequests", retry_after=1)
        api.refusals[f"{verb} secretproviderclasses"] = refusal
    with captured_log() as log:
        async with open_kube_store(
            api.kubeconfig, node="n", clock=SystemClock(), backoff=lambda _: 0.01
        ) as store:
            await wait_until(lambda: "asks to wait" in log.getvalue(), "the refusal")
            asked = Counter(api.requests)
            await asyncio.sleep(0.5)
            for verb in ("watch", "list"):
                action = f"{verb} secretproviderclasses"
                assert asked[action] == Counter(api.requests)[action]
            api.refusals.clear()
            await store.wait_synced()
        assert "watch failed" not in log.getvalue()


async def test_api_server_that_asks_to_wait_again_is_a_warning(
    api: KubeApiServer, store: KubeStore
) -> None:
    """Once, however long it lasts."""
    with captured_log() as log:
        api.refusals["watch secretproviderclasses"] = StatusError(429, "TooManyRequests")
        api.refusals["list secretproviderclasses"] = StatusError(429, "TooManyRequests")
        api.put("pods", pod_manifest("web-0", "n", namespace="billing"))
        await wait_until(lambda: "watch failed" in log.getvalue(), "the second refusal")
        asked = len(api.requests)
        await wait_until(lambda: len(api.requests) > asked + 5, "more refusals")
        assert 1 == log.getvalue().count("watch failed")
