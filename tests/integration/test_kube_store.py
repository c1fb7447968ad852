"""The store over a Kubernetes API that rejects requests, loses history and is unavailable."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from keyferry.aio.clock import SystemClock
from keyferry.content import ObjectVersion
from keyferry.errors import StoreError
from keyferry.kubernetes.api.client import MAX_CONCURRENT_WRITES
from keyferry.kubernetes.api.store import KubeStore, open_kube_store
from keyferry.kubernetes.object_codec import (
    parse_pod_status,
    pod_status_manifest,
    secret_manifest,
)
from keyferry.kubernetes.objects import (
    Event,
    EventType,
    OwnerReference,
    PodRef,
    PodStatus,
    RefreshCondition,
    RefreshMarks,
)
from keyferry.records import replace
from tests.fakes.kube_api import KubeApiServer, class_manifest, pod_manifest, running_api
from tests.fakes.kube_objects import StatusError
from tests.fakes.log import captured_log
from tests.fakes.store_suite import (
    CLAIMED_SECRET,
    FETCHED_AT,
    OTHER_REPLICA_SET,
    REFRESH_CONDITION,
    SECRET,
    later_claim,
    owner_uids,
)


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[KubeApiServer]:
    """A server with a class `web`, and a pod of node `n` that uses it."""
    async with running_api(tmp_path) as running:
        running.put("pods", pod_manifest("web-0", "n"))
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


async def follows(api: KubeApiServer, store: KubeStore) -> None:
    """Wait until a change of the class arrives by the mirror, and not by a GET."""
    api.requests.clear()
    api.put("secretproviderclasses", class_manifest("web", provider="vault"))
    while (await store.get_class("shop", "web")).provider != "vault":  # noqa: ASYNC110 - the server sends no notification
        await asyncio.sleep(0.01)
    assert "get secretproviderclasses" not in api.requests


async def test_cached_class_is_served_while_the_server_is_unavailable(
    api: KubeApiServer, store: KubeStore
) -> None:
    """Cached objects are returned; others raise an error with the host; then the store recovers."""
    await api.stop()
    assert "azure" == (await store.get_class("shop", "web")).provider
    with pytest.raises(StoreError, match=f"127.0.0.1:{api.port} cannot be reached"):
        await store.get_class("shop", "other")
    await api.start()
    await follows(api, store)


@pytest.mark.parametrize("in_stream", [False, True])
async def test_expired_history_is_listed_again(
    api: KubeApiServer, store: KubeStore, in_stream: bool
) -> None:
    """410 as a status or as an event of the watch: the mirror begins again."""
    api.expires_by_event = in_stream
    api.put("secretproviderclasses", class_manifest("more"))
    api.objects.compact()
    api.break_streams()
    await follows(api, store)


async def test_a_node_that_starts_does_not_flood_the_api(
    api: KubeApiServer, store: KubeStore
) -> None:
    """However many volumes are published at once, the number of concurrent writes is limited."""
    api.writes_allowed.clear()
    statuses = [
        PodStatus("shop", f"s-{n}", PodRef("shop", f"web-{n}", f"uid-{n}"), "web", "/x", "n", ())
        for n in range(3 * MAX_CONCURRENT_WRITES)
    ]
    async with asyncio.TaskGroup() as group:
        for status in statuses:
            group.create_task(store.apply_pod_status(status))
        while api.peak_concurrent_writes < MAX_CONCURRENT_WRITES:  # noqa: ASYNC110 - the server sends no notification
            await asyncio.sleep(0.01)
        api.writes_allowed.set()
    assert MAX_CONCURRENT_WRITES == api.peak_concurrent_writes
    assert len(statuses) == len(api.all_of("secretproviderclasspodstatuses"))


async def test_a_status_that_did_not_change_is_not_written(
    api: KubeApiServer, store: KubeStore
) -> None:
    """Until somebody else changed it, or the volume holds something else."""
    status = PodStatus("shop", "s", PodRef("shop", "web-0", "uid-0"), "web", "/x", "n", ())
    first = await store.apply_pod_status(status)
    api.requests.clear()
    assert first == await store.apply_pod_status(status)
    assert [] == api.requests
    await store.apply_pod_status(replace(status, target_path="/y"))
    assert ["patch secretproviderclasspodstatuses"] == api.requests
    api.remove("secretproviderclasspodstatuses", "shop", "s")
    while await store.find_pod_status("shop", "s"):  # noqa: ASYNC110 - the server sends no notification
        await asyncio.sleep(0.01)
    await store.apply_pod_status(status)
    assert api.get("secretproviderclasspodstatuses", "shop", "s") is not None


async def test_a_missing_permission_is_named(api: KubeApiServer, store: KubeStore) -> None:
    """Verb, resource and remedy; no word of the server, which quotes values."""
    api.forbidden.add("patch secrets")
    with pytest.raises(
        StoreError, match=r"to patch secrets shop/db .* namespace to syncSecret\.namespaces"
    ):
        await store.apply_secret(SECRET)


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        (
            StatusError(
                403,
                "Forbidden",
                'secrets "db" is forbidden: exceeded quota: q, requested: secrets=1, used: 0',
            ),
            r"Forbidden\): quota q of the namespace is exceeded\. Raise the .* --namespace shop",
        ),
        (
            StatusError(
                400, "BadRequest", 'admission webhook "a.example.com" denied the request: canary'
            ),
            r"BadRequest\): admission webhook a\.example\.com denied it\. Ask the owner",
        ),
        (
            StatusError(
                422,
                "Invalid",
                "secrets \"db\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied"
                " request: canary",
            ),
            r"Invalid\): admission policy p denied it\. .*describe validatingadmissionpolicy p",
        ),
        (
            StatusError(
                403,
                "Forbidden",
                'secrets "db" is forbidden: unable to create new content in namespace shop because'
                " it is being terminated",
            ),
            r"Forbidden\): namespace shop is being deleted\. No action is needed",
        ),
        (
            StatusError(403, "Forbidden", 'secrets "db" is forbidden: canary'),
            r"syncSecret\.namespaces; .* If the permission exists, an admission plugin denied",
        ),
    ],
    ids=["quota", "webhook", "policy", "terminating", "other"],
)
async def test_rejection_that_is_no_missing_permission_is_named(
    api: KubeApiServer, store: KubeStore, refusal: StatusError, words: str
) -> None:
    """For Secrets, pod statuses and events; the text of the server is not repeated."""
    for plural in ("secrets", "secretproviderclasspodstatuses"):
        api.refusals[f"patch {plural}"] = refusal
        api.refusals[f"create {plural}"] = refusal
    api.refusals["create events"] = refusal
    with pytest.raises(StoreError, match=words) as caught:
        await store.apply_secret(SECRET)
    assert "canary" not in str(caught.value)
    status = PodStatus("shop", "s", PodRef("shop", "web-0", "uid-0"), "web", "/x", "n", ())
    expected = words.replace(r"syncSecret\.namespaces; ", "") if "syncSecret" in words else words
    with pytest.raises(StoreError, match=expected):
        await store.apply_pod_status(status)
    with captured_log() as log:
        about = PodRef("shop", "web-0", "uid-0")
        await store.record_event(Event(about, EventType.WARNING, "Failed", "x"))
        await store.drain()
    is_terminating = "being deleted" in words
    assert ("event dropped" in log.getvalue()) is not is_terminating


async def test_secret_created_concurrently_by_another_client_is_not_changed(
    api: KubeApiServer, store: KubeStore
) -> None:
    """Between looking and writing it appears: it is looked at again and refused."""
    theirs = {
        "metadata": {"name": "db", "namespace": "shop"},
        "type": "Opaque",
        "data": {"password": "dGhlaXJz"},
    }
    api.concurrent_writes.append(theirs)
    with pytest.raises(StoreError, match="is not managed by Keyferry"):
        await store.apply_secret(SECRET)


async def test_the_audit_log_of_the_cluster_knows_who_calls(
    api: KubeApiServer, store: KubeStore
) -> None:
    """Every call, watches too, bears product and version."""
    await store.apply_secret(SECRET)
    (agent,) = api.user_agents
    assert re.fullmatch(r"keyferry/\d+\.\d+\.\S+ \(linux/\w+\)", agent)


@pytest.mark.parametrize("since", ["start", "write"])
async def test_crds_of_upstream_are_logged_once(api: KubeApiServer, since: str) -> None:
    """At the start, and when a helm upgrade of upstream replaced them later."""
    api.upstream_crds = since == "start"
    status = PodStatus("shop", "s", PodRef("shop", "web-0", "uid-0"), "web", "/x", "n", ())
    with captured_log(verbosity=2) as log:
        async with open_kube_store(api.kubeconfig, node="n", clock=SystemClock()) as store:
            await store.wait_synced()
            await store.apply_pod_status(status)
            if since == "start":
                while "the CRDs drop" not in log.getvalue():  # noqa: ASYNC110 - a log has no event
                    await asyncio.sleep(0.01)
            await store.apply_refresh_condition("shop", "s", REFRESH_CONDITION)
            assert (since == "start") is ("the CRDs drop" in log.getvalue())
            api.upstream_crds = True
            changed = replace(REFRESH_CONDITION, message="x")
            await store.apply_refresh_condition("shop", "t", changed)
            await store.apply_pod_status(replace(status, name="t"))
            for _ in range(2):
                await store.apply_refresh_condition("shop", "t", changed)
    (line,) = [line for line in log.getvalue().splitlines() if line.startswith("W")]
    assert 'fields="status.conditions, status.lastRefreshTime"' in line
    assert "kubectl apply --server-side --force-conflicts -f charts/keyferry/crds" in line


async def test_owners_are_kept_if_another_node_creates_a_deleted_secret_first(
    api: KubeApiServer, store: KubeStore
) -> None:
    """Between the two requests of a node that recreates it."""
    key = "secrets", SECRET.namespace, SECRET.name
    await store.apply_secret(replace(CLAIMED_SECRET, owners=(OTHER_REPLICA_SET,)))
    api.objects.merge(key, {"immutable": True}, "hand")
    api.writes_allowed.clear()
    changed = replace(CLAIMED_SECRET, data={"x": b"2"}, claim=later_claim())
    async with asyncio.TaskGroup() as group:
        group.create_task(store.apply_secret(changed))
        while key in api.objects.stored or not api.peak_concurrent_writes:  # noqa: ASYNC110 - the server sends no notification
            await asyncio.sleep(0.01)
        third = OwnerReference("apps/v1", "ReplicaSet", "web-3", "rs-uid-3")
        api.objects.apply(key, secret_manifest(changed, (third,)), "keyferry", force=True)
        api.writes_allowed.set()
    assert ["rs-uid", "rs-uid-3", "rs-uid-7"] == sorted(owner_uids(api.get(*key)))


async def test_pod_status_and_condition_are_one_request(
    api: KubeApiServer, store: KubeStore
) -> None:
    """Also when the versions change. A repeated result is not written."""
    status = PodStatus("shop", "s", PodRef("shop", "web-0", "uid-0"), "web", "/x", "n", ())
    status = replace(status, refresh=replace(REFRESH_CONDITION, reason="Refreshed", message=""))
    changed = replace(status, objects=(ObjectVersion("secret/a", "2"),))
    api.requests.clear()
    for each in (status, status, changed, changed):
        await store.apply_pod_status(each)
    assert [f"{verb} secretproviderclasspodstatuses" for verb in ("create", "patch")] == (
        api.requests
    )
    for message in ("stage vault: request 1", "stage vault: request 2"):
        await store.apply_refresh_condition(
            "shop", "s", replace(REFRESH_CONDITION, message=message)
        )
    assert ["patch secretproviderclasspodstatuses"] == api.requests[2:]
    written = api.get("secretproviderclasspodstatuses", "shop", "s")
    assert written is not None
    assert "stage vault: request 1" == written["status"]["conditions"][0]["message"]


async def test_a_restart_writes_no_pod_status_that_is_unchanged(api: KubeApiServer) -> None:
    """All nodes restart together in an upgrade."""
    status = PodStatus("shop", "s", PodRef("shop", "web-0", "uid-0"), "web", "/x", "n", ())
    status = replace(status, refresh=replace(REFRESH_CONDITION, reason="Refreshed", message=""))
    async with open_kube_store(api.kubeconfig, node="n", clock=SystemClock()) as store:
        await store.apply_pod_status(status)
    api.requests.clear()
    hours = timedelta(hours=5)
    later = RefreshCondition(FETCHED_AT + hours, FETCHED_AT + hours)
    async with open_kube_store(api.kubeconfig, node="n", clock=SystemClock()) as store:
        store.cluster.find_class("shop", "web")
        await store.wait_synced()
        await store.apply_pod_status(replace(status, refresh=later))
    assert [] == [each for each in api.requests if each.startswith(("create", "patch"))]


async def test_crds_of_upstream_cause_no_further_writes(api: KubeApiServer) -> None:
    """They drop the condition, so it never equals what is written."""
    api.upstream_crds = True
    status = PodStatus("shop", "s", PodRef("shop", "web-0", "uid-0"), "web", "/x", "n", ())
    status = replace(status, refresh=replace(REFRESH_CONDITION, reason="Refreshed", message=""))
    async with open_kube_store(api.kubeconfig, node="n", clock=SystemClock()) as store:
        await store.wait_synced()
        await store.apply_pod_status(status)
        api.requests.clear()
        await store.apply_pod_status(status)
        await store.apply_refresh_condition("shop", "s", REFRESH_CONDITION)
        assert [] == api.requests
        api.upstream_crds = False
        await store.apply_pod_status(replace(status, target_path="/y"))
        await store.apply_refresh_condition("shop", "s", REFRESH_CONDITION)
    assert ["patch secretproviderclasspodstatuses"] * 2 == api.requests


async def test_pod_status_that_the_cache_does_not_know_is_updated(
    api: KubeApiServer, store: KubeStore
) -> None:
    """Another node wrote it, for an earlier pod of that name; its marks are removed."""
    status = PodStatus("shop", "s", PodRef("shop", "web-0", "uid-0"), "web", "/x", "n", ())
    theirs = replace(status, node="other", refresh_marks=RefreshMarks("a", "b"))
    api.put("secretproviderclasspodstatuses", pod_status_manifest(theirs, {}))
    await store.apply_pod_status(status)
    written = api.get("secretproviderclasspodstatuses", "shop", "s")
    assert written is not None
    assert status == parse_pod_status(written)
    assert not written["metadata"].get("annotations")
