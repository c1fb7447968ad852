"""Many SecretSyncs, several replicas of the controller, and outages of one or the API server."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import pytest_asyncio

from keyferry_devvault.http_types import RequestKind
from tests.e2e.cluster.kubectl import Document
from tests.e2e.cluster.manifests import azure_class
from tests.e2e.cluster.sync_namespace import SyncNamespace, conditions, secret_sync, text_data
from tests.e2e.cluster.sync_process import (
    DEFAULT,
    Controller,
    SyncWorld,
    Write,
    running_sync_world,
    service_account,
)
from tests.e2e.cluster.waiting import eventually

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]

COUNT = 300
PAIR = "pair"
OBJECT = "db"
NAMES = [f"web-{number}" for number in range(COUNT)]

Show = Callable[[str], None]


def all_syncs(controller: str) -> list[Document]:
    """Return SecretSyncs whose Secrets have the same object under two keys."""
    data = {"first": OBJECT, "second": OBJECT}
    return [
        secret_sync(name, data, spc="web", secretSyncControllerName=controller) for name in NAMES
    ]


def spc_of(shop: SyncNamespace) -> Document:
    """Return the SecretProviderClass of all SecretSyncs of a namespace."""
    return azure_class("web", {shop.name: OBJECT})


def ready_count(shop: SyncNamespace) -> int:
    """Return how many SecretSyncs of a namespace are ready in their current generation."""
    found = 0
    for sync in shop.world.recorder.existing("SecretSync", shop.name):
        ready = conditions(sync)["Ready"]
        is_current = sync["metadata"]["generation"] == ready.get("observedGeneration")
        found += is_current and "True" == ready["status"]
    return found


async def all_have(shop: SyncNamespace, value: str) -> None:
    """Wait until every SecretSync is ready, and every Secret has a value; none is ever torn."""
    expected = {"first": value, "second": value}

    def look() -> bool | None:
        assert COUNT == ready_count(shop), f"{ready_count(shop)} are ready"
        secrets = shop.world.recorder.existing("Secret", shop.name)
        behind = [each["metadata"]["name"] for each in secrets if expected != text_data(each)]
        assert (COUNT, []) == (len(secrets), behind)
        return True

    await shop.world.recorder.until(look, f"all SecretSyncs of {shop.name}")
    for name in NAMES:
        for seen in shop.versions("Secret", name):
            data = text_data(seen.object)
            assert {"first", "second"} == set(data), f"{name} was torn"
            assert data["first"] == data["second"], f"{name} was torn"


def writes_to_objects(world: SyncWorld, controller: Controller, *, after: int = 0) -> list[Write]:
    """Return what a controller wrote to Secrets and SecretSyncs."""
    kinds = {"secrets", "secretsyncs/status"}
    return [each for each in world.writes(controller, after=after) if each.resource in kinds]


def vault_calls(shop: SyncNamespace) -> int:
    """Return how often the object of a namespace was read from the vault."""
    path = f"/secrets/{shop.name}"
    calls = [each for each in shop.vault.requests if each.kind is RequestKind.SECRET]
    return sum(each.path.startswith(path) for each in calls)


# --- many SecretSyncs ----------------------------------------------------------------------------


async def test_secret_syncs_of_one_identity_share_a_vault_call(
    sync_world: SyncWorld, show: Show
) -> None:
    """A restart writes nothing and asks no vault; an interval without changes writes nothing."""
    world, shop = sync_world, SyncNamespace(sync_world, "load")
    controller = await world.start_controller("load", namespaces=["load"])
    value = world.set_secret("load")
    await shop.apply(spc_of(shop))
    await shop.measure("300 SecretSyncs applied", shop.apply(*all_syncs("load")))
    await shop.measure("then all are ready", all_have(shop, value))
    calls = vault_calls(shop)
    assert 1 <= calls <= 4, "a busy machine takes longer than content is reused, 15 seconds"
    writes = writes_to_objects(world, controller)
    assert COUNT == sum("secrets" == each.resource for each in writes), "each was written once"
    assert COUNT == sum("secretsyncs/status" == each.resource for each in writes)
    await controller.terminate()

    before = _versions(shop)
    again = await world.start_controller("load", "--rotation-poll-interval=8s", namespaces=["load"])
    await again.leads()

    async def unchanged() -> bool | None:
        found = await again.metric("keyferry_secretsync_total", outcome="unchanged")
        assert found >= 2 * COUNT, f"{found} SecretSyncs were refreshed"
        return True

    await eventually(unchanged, "two intervals")
    assert [] == writes_to_objects(world, again)
    assert before == _versions(shop)
    assert COUNT == await again.metric("keyferry_secretsync_ready", ready="true", namespace="load")
    further = vault_calls(shop) - calls
    show(f"vault calls in two intervals: {further}")
    assert further <= 4, "not one call for each SecretSync"

    rotated = world.set_secret("load")
    await all_have(shop, rotated)
    await again.terminate()
    for line in shop.figures:
        show(line)


def _versions(shop: SyncNamespace) -> dict[str, str]:
    """Return the resourceVersions of all SecretSyncs, Secrets and events."""
    return {
        f"{kind} {each['metadata']['name']}": each["metadata"]["resourceVersion"]
        for kind in ("SecretSync", "Secret", "Event")
        for each in shop.world.recorder.existing(kind, shop.name)
    }


# --- replicas ------------------------------------------------------------------------------------


async def test_replicas_take_over_from_each_other(sync_world: SyncWorld, show: Show) -> None:
    """SIGTERM, kill -9, and a paused process amid work: nothing is lost, torn or written twice."""
    world, shop = sync_world, SyncNamespace(sync_world, PAIR)
    first = await _start_replica(world, 0)
    await first.leads()
    second = await _start_replica(world, 1)
    assert 0 == await second.metric("keyferry_secretsync_leader")

    value = world.set_secret(PAIR)
    await shop.apply(spc_of(shop))
    applying = asyncio.create_task(shop.apply(*all_syncs(PAIR)))
    await _some_done(shop, value)
    await first.terminate()
    await shop.measure("new leader after SIGTERM", second.leads())
    await applying
    await shop.measure("all are ready after SIGTERM", all_have(shop, value))
    _check_one_writer(world, first, second)

    third = await _start_replica(world, 2)
    value = await _rotate(shop, "killed")
    await second.kill()
    await shop.measure("new leader after kill -9", third.leads())
    await shop.measure("all are ready after kill -9", all_have(shop, value))
    _check_one_writer(world, second, third)

    fourth = await _start_replica(world, 3)
    value = await _rotate(shop, "paused")
    third.child.send(signal.SIGSTOP)
    await shop.measure("new leader beside a paused process", fourth.leads())
    await all_have(shop, value)
    value = await _rotate(shop, "resumed")
    third.child.send(signal.SIGCONT)
    await all_have(shop, value)
    await eventually(lambda: _follows(third), "the resumed process to follow")
    _check_one_writer(world, third, fourth)
    await third.terminate()
    await fourth.terminate()
    uids = {
        seen.object["metadata"]["uid"] for name in NAMES for seen in shop.versions("Secret", name)
    }
    assert COUNT == len(uids), "no Secret was created twice"

    def released() -> bool:
        (lease,) = [
            each for each in world.recorder.existing("Lease") if PAIR in each["metadata"]["name"]
        ]
        assert "" == lease["spec"].get("holderIdentity", "")
        return True

    await world.recorder.until(released, "the last leader to release the Lease")
    for line in shop.figures:
        show(line)


async def _start_replica(world: SyncWorld, number: int) -> Controller:
    return await world.start_controller(PAIR, namespaces=[PAIR], replica=number)


async def _follows(controller: Controller) -> bool | None:
    return await controller.metric("keyferry_secretsync_leader") == 0 or None


async def _rotate(shop: SyncNamespace, mark: str) -> str:
    """Store a new value, and wait until some Secrets have it; return the value."""
    value = shop.world.set_secret(shop.name)
    await shop.annotate("SecretProviderClass", "web", refresh=mark)
    await _some_done(shop, value)
    return value


async def _some_done(shop: SyncNamespace, value: str) -> None:
    """Wait until a tenth of the Secrets have a value; the others are still being written."""

    def look() -> bool | None:
        secrets = shop.world.recorder.existing("Secret", shop.name)
        done = sum(value == text_data(each)["first"] for each in secrets)
        return done >= COUNT // 10 or None

    await shop.world.recorder.until(look, "some Secrets to have the new value")


def _check_one_writer(world: SyncWorld, old: Controller, new: Controller) -> None:
    """Check that the old leader changed nothing after the first write of the new leader.

    What a paused process was about to send arrives when it resumes. It is then in conflict, and
    not sent again.
    """
    theirs = writes_to_objects(world, new)
    assert theirs, f"{new.pod} wrote nothing"
    first = min(each.started for each in theirs)
    late = [
        each for each in writes_to_objects(world, old) if each.ended > first and each.status < 300
    ]
    assert [] == late, f"{old.pod} wrote after {new.pod}"


# --- outages of the API server -------------------------------------------------------------------


@pytest_asyncio.fixture(loop_scope="session")
async def outage(sync_world: SyncWorld) -> AsyncIterator[SyncNamespace]:
    """A namespace with a SecretSync that is ready, and its controller."""
    shop = SyncNamespace(sync_world, "outage")
    controller = await sync_world.start_controller("outage", namespaces=[shop.name])
    value = sync_world.set_secret(shop.name)
    await shop.apply(spc_of(shop), _outage_sync("web"), _outage_sync("deleted"))
    for name in ("web", "deleted"):
        await shop.secret_has(name, {"password": value})
        await shop.ready(name)
    yield shop
    await controller.terminate()


def _outage_sync(name: str) -> Document:
    return secret_sync(name, {"password": OBJECT}, spc="web", secretSyncControllerName="outage")


async def test_changes_during_an_outage_of_the_api_server_are_noticed(
    outage: SyncNamespace, show: Show
) -> None:
    """An edited and a deleted Secret, a new SecretSync, and a request; then a second outage."""
    shop, world = outage, outage.world
    (controller,) = [each for each in world.controllers if each.name == "outage"]
    controller.child.send(signal.SIGSTOP)  # so that it has seen none of the changes
    value = world.set_secret(shop.name)
    await shop.edit("web", password="edited")
    await shop.delete("Secret", "deleted")
    await world.server.stop()
    await world.server.start()
    await shop.apply(_outage_sync("new"))
    await shop.annotate("SecretProviderClass", "web", refresh="1")
    controller.child.send(signal.SIGCONT)
    for name in ("web", "deleted", "new"):
        await shop.measure(f"{name} after the outage", shop.secret_has(name, {"password": value}))
        await shop.ready(name)

    await world.server.stop()
    await controller.child.says("watch failed, using cached objects")
    rotated = world.set_secret(shop.name)
    await world.server.start()
    await shop.edit("new", password="edited")
    await shop.force("web", "x2")
    await shop.secret_has("web", {"password": rotated})
    await shop.ready("web")

    def reverted() -> bool | None:
        secret = world.recorder.latest("Secret", shop.name, "new")
        return (secret is not None and text_data(secret)["password"] in {value, rotated}) or None

    await world.recorder.until(reverted, "the edited Secret to be restored")
    for line in shop.figures:
        show(line)


async def test_watches_that_expire_are_started_again(show: Show) -> None:
    """Quiet objects: the API server restarts, and etcd does not know the version of the watches."""
    with TemporaryDirectory(prefix="keyferry-") as folder:
        async with running_sync_world(Path(folder), "--watch-cache=false") as world:
            shop = SyncNamespace(world, "expired")
            value = world.set_secret(shop.name)
            controller = await world.start_controller(
                DEFAULT, "--service-account-opt-in=true", "--v=2", namespaces=[shop.name]
            )  # lists after the first one are details
            account = service_account("default", labels={"secret-sync.x-k8s.io/allowed": "true"})
            sync = secret_sync("web", {"password": OBJECT})
            await shop.apply(account, spc_of(shop), sync)
            await shop.ready("web")
            kinds = ("SecretSyncs of", "SecretProviderClasses", "Secrets of", "service accounts of")
            before = [_lists(controller, each) for each in kinds]

            async def listed_again() -> bool | None:
                after = [_lists(controller, each) for each in kinds]
                said = controller.child.text()[-4000:]
                assert all(map(int.__gt__, after, before)), f"lists: {before}, {after}\n{said}"
                return True

            await world.make_namespace("unrelated")
            await world.client.annotate("Namespace", "", "unrelated", {"now": world.value("")})
            latest = await world.client.get("Namespace", "", "unrelated")
            await world.server.compact(latest["metadata"]["resourceVersion"])
            await world.server.stop()
            await world.server.start()
            await eventually(listed_again, "all watches to expire", pause=2.0)
            await shop.edit("web", password="edited")
            await shop.secret_has("web", {"password": value})
            other = world.set_secret("other")
            await shop.apply(azure_class("web", {"other": OBJECT}))
            await shop.secret_has("web", {"password": other})
            await shop.apply(service_account("default"))
            await shop.failed("web", "secret-sync.x-k8s.io/allowed", reason="ControllerSyncError")
            show(f"lists: {before}, {[_lists(controller, each) for each in kinds]}")
            await controller.terminate()


def _lists(controller: Controller, what: str) -> int:
    """Return how often a controller has listed some objects."""
    return len(re.findall(rf'"cache synced" what="{what}', controller.child.text()))
