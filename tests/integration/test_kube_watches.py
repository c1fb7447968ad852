"""Watches of a Kubernetes API: bookmarks, streaming lists, and servers without them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from keyferry.aio.clock import SystemClock
from keyferry.kubernetes.api.store import KubeStore, open_kube_store
from tests.fakes.kube_api import KubeApiServer, class_manifest, running_api
from tests.fakes.kube_node import wait_until


@pytest.fixture(params=["streaming lists", "lists"])
async def api(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[KubeApiServer]:
    """A server that streams lists, or does not."""
    async with running_api(tmp_path) as running:
        running.streams_lists = request.param == "streaming lists"
        running.put("secretproviderclasses", class_manifest("web"))
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
        watches = Counter(api.requests)["watch pods"]
        api.end_streams()
        api.objects.compact()
        await wait_until(lambda: Counter(api.requests)["watch pods"] > watches, "a new watch")  # noqa: B023
        await asyncio.sleep(0.05)
    assert [] == api.list_versions


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
    """The first one may show any state, a later one none that is older than what was seen."""
    assert store.problem() is None
    assert {"0"} == set(api.list_versions)
    api.list_versions.clear()
    api.expires_by_event = False
    api.put("serviceaccounts", {"metadata": {"namespace": "other", "name": "e"}})
    api.objects.compact()
    api.break_streams()
    await wait_until(lambda: bool(api.list_versions), "a list")
    assert all(int(version) > 100 for version in api.list_versions)
