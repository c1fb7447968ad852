"""Event objects of the Kubernetes API: one for each cause, whatever happens to the driver."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from keyferry.kubernetes.api.event_budget import NAMESPACE_BURST, REPEAT_BURST, REPEAT_SECONDS
from keyferry.kubernetes.api.store import KubeStore, open_kube_store
from keyferry.kubernetes.objects import Event, EventType, PodRef
from keyferry.records import replace
from keyferry.telemetry.help_links import HelpLinks
from tests.fakes.clock import ManualClock
from tests.fakes.kube_api import KubeApiServer, running_api
from tests.fakes.log import captured_log

FAILED = Event(PodRef("shop", "web-0", "uid-0"), EventType.WARNING, "Failed", "no answer", "web")


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[KubeApiServer]:
    async with running_api(tmp_path) as running:
        yield running


@asynccontextmanager
async def opened(api: KubeApiServer, clock: ManualClock) -> AsyncIterator[KubeStore]:
    async with open_kube_store(api.kubeconfig, node="n", clock=clock) as store:
        await store.wait_synced()
        yield store


def writes(api: KubeApiServer) -> int:
    return sum(request.endswith(" events") for request in api.requests)


async def record(store: KubeStore, *events: Event) -> None:
    for event in events:
        await store.record_event(event)
        await store.drain(5.0)


async def test_repetitions_are_written_seldom_with_their_count(api: KubeApiServer) -> None:
    clock = ManualClock()
    async with opened(api, clock) as store:
        await record(store, *[FAILED] * 50)
        assert REPEAT_BURST == writes(api)
        clock.now += REPEAT_SECONDS
        await record(store, *[FAILED] * 50)
        assert REPEAT_BURST + 1 == writes(api)
    (event,) = api.all_of("events")
    assert 51 == event["count"]
    assert "2030-01-01T12:00:00Z" == event["firstTimestamp"]
    assert "2030-01-01T12:05:00Z" == event["lastTimestamp"]


async def test_later_message_about_the_same_subject_replaces_the_earlier_one(
    api: KubeApiServer,
) -> None:
    async with opened(api, ManualClock()) as store:
        await record(store, FAILED, replace(FAILED, message="denied"))
        await record(store, replace(FAILED, subject="other"))
    messages = {event["message"]: event["count"] for event in api.all_of("events")}
    assert {"denied": 2, "no answer": 1} == messages


async def test_restarted_driver_continues_an_event(api: KubeApiServer) -> None:
    """A driver that crashes again and again does not fill etcd."""
    for _ in range(4):
        async with opened(api, ManualClock()) as store:
            await record(store, FAILED, FAILED)
    (event,) = api.all_of("events")
    assert 2 <= event["count"]


async def test_event_that_kubernetes_deleted_is_created_again(api: KubeApiServer) -> None:
    async with opened(api, ManualClock()) as store:
        await record(store, FAILED)
        (event,) = api.all_of("events")
        api.remove("events", "shop", event["metadata"]["name"])
        await record(store, FAILED)
    (event,) = api.all_of("events")
    assert 1 == event["count"]


async def test_number_of_event_objects_is_limited(api: KubeApiServer) -> None:
    """The rest is dropped, and the log says so once."""
    with captured_log() as log:
        await record_many(api)
    assert 1 == log.getvalue().count("events dropped: too many on this node")


async def record_many(api: KubeApiServer) -> None:
    async with opened(api, ManualClock()) as store:
        for number in range(500):
            await store.record_event(replace(FAILED, subject=f"s-{number}"))
        await store.drain(20.0)
        assert NAMESPACE_BURST == writes(api)


async def test_problem_links_to_its_symptom_when_it_is_created_and_repeated(
    api: KubeApiServer,
) -> None:
    """Another page is no other event."""
    failed = replace(FAILED, reason="MountRotationFailed")
    for page in ("https://example.com/old", "https://example.com/new"):
        links = HelpLinks(page)
        async with open_kube_store(
            api.kubeconfig, node="n", clock=ManualClock(), links=links
        ) as store:
            await store.wait_synced()
            await record(store, failed)
            (event,) = api.all_of("events")
            assert f"no answer. See {page}#the-content-is-old" == event["message"]
            await record(store, replace(failed, message="denied"))
            (event,) = api.all_of("events")
            assert f"denied. See {page}#the-content-is-old" == event["message"]
