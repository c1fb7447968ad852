"""`keyferry.status_page.workloads`: the state of volumes and SecretSyncs."""

from __future__ import annotations

from datetime import timedelta

import pytest

from keyferry.inventory.objects import ObjectRow
from keyferry.inventory.users import NOT_MOUNTED
from keyferry.kubernetes.syncs.objects import SecretSync
from keyferry.records import replace
from keyferry.status_page.facts import ClassFacts, ClusterFacts
from keyferry.status_page.workloads import (
    Kind,
    State,
    Workload,
    count_states,
    take_inventory,
)
from tests.fakes.status_page import CONTOSO, NOW, example_facts, sync, volume

NEW, OLD = ("secret/db", "v2"), ("secret/db", "v1")
AZURE = ClassFacts("shop", "web", "azure", (CONTOSO,))


def workloads(
    *volumes: tuple[ObjectRow, ...],
    syncs: tuple[SecretSync, ...] = (),
    spc: ClassFacts = AZURE,
) -> dict[str, Workload]:
    facts = ClusterFacts(NOW, volumes, syncs, (spc,))
    return {each.name: each for each in take_inventory(facts).workloads}


def states(found: dict[str, Workload]) -> dict[str, State]:
    return {name: each.state for name, each in found.items()}


def test_volume_is_described() -> None:
    """With the vaults of its SecretProviderClass, and when it was refreshed."""
    (found,) = workloads(volume("a", NEW, ("cert/tls", "7"), age=3)).values()
    assert (Kind.POD, "shop", "a", "web", (CONTOSO,), "node-1", State.HEALTHY, "") == (
        *(found.kind, found.namespace, found.name, found.class_name),
        *(found.vaults, found.node, found.state, found.problem),
    )
    assert NOW - timedelta(minutes=3) == found.updated_at
    assert [NEW, ("cert/tls", "7")] == [(each.id, each.version) for each in found.items]


def test_volume_with_a_failed_refresh_is_failing() -> None:
    """Even if its version is also old."""
    found = workloads(volume("a", OLD, age=9, problem="denied"), volume("b", NEW))
    assert {"a": State.FAILING, "b": State.HEALTHY} == states(found)
    assert "denied" == found["a"].problem


def test_volume_with_an_older_version_than_another_is_stale() -> None:
    """The one that was refreshed last counts as new; its pod is named."""
    found = workloads(volume("a", OLD, age=9), volume("b", NEW, age=1), volume("c", NEW, age=5))
    assert {"a": State.STALE, "b": State.HEALTHY, "c": State.HEALTHY} == states(found)
    assert "older than in pod b" == found["a"].items[0].note


@pytest.mark.parametrize(
    "spc",
    [replace(AZURE, provider="vault"), replace(AZURE, name="other")],
    ids=["vault", "unknown class"],
)
def test_versions_of_other_providers_are_not_compared(spc: ClassFacts) -> None:
    """They depend on the node, and dynamic secrets differ between pods."""
    found = workloads(volume("a", OLD, age=9), volume("b", NEW), spc=spc)
    assert {State.HEALTHY} == {*states(found).values()}


def test_versions_without_a_time_are_not_compared() -> None:
    """The upstream driver writes none."""
    unknown = tuple(replace(row, refreshed_at=None) for row in volume("a", OLD))
    found = workloads(unknown, volume("b", NEW))
    assert {State.HEALTHY} == {*states(found).values()}


def test_old_environment_is_stale() -> None:
    """The container has to be restarted."""
    found = workloads(volume("a", NEW, environment="old"))
    assert State.STALE == found["a"].state
    assert "environment has an older version" == found["a"].items[0].note


def test_secret_syncs_have_the_states_of_their_conditions() -> None:
    """A change that nobody has handled is stale; without a condition, the state is pending."""
    item = {"id": "secret/db", "version": "1"}
    found = workloads(
        syncs=(
            sync("good", item),
            sync("bad", item, status="False", message="denied"),
            sync("changed", item, generation=2),
            sync("waiting", item, status="Unknown", message="starting"),
            sync("new", status=None),
        )
    )
    assert {
        "good": State.HEALTHY,
        "bad": State.FAILING,
        "changed": State.STALE,
        "waiting": State.PENDING,
        "new": State.PENDING,
    } == states(found)
    assert ("denied", "starting") == (found["bad"].problem, found["waiting"].problem)
    assert "no controller has reported a status yet" == found["new"].problem


@pytest.mark.parametrize(
    ("days", "state", "note"),
    [
        (31, State.HEALTHY, ""),
        (30, State.EXPIRING, "expires soon"),
        (0, State.EXPIRING, "expired"),
        (-1, State.EXPIRING, "expired"),
    ],
)
def test_expiry_is_a_state_of_its_own(days: int, state: State, note: str) -> None:
    """Within 30 days, and after it."""
    expires = NOW + timedelta(days=days)
    item = {"id": "secret/db", "version": "1", "expires": expires.isoformat()}
    (found,) = workloads(syncs=(sync("web", item, {"id": "key/x", "version": "1"}),)).values()
    assert (state, expires) == (found.state, found.expires_at)
    assert ["", note] == [each.note for each in found.items]


def test_objects_of_volumes_expire_too() -> None:
    """A driver of Keyferry notes it in the pod status; an older version is more urgent."""
    soon = NOW + timedelta(days=3)
    (row,) = volume("a", NEW, age=1)
    found = workloads((replace(row, expires_at=soon),), volume("b", OLD, age=9))
    assert {"a": State.EXPIRING, "b": State.STALE} == states(found)
    assert (soon, ["expires soon"]) == (found["a"].expires_at, [i.note for i in found["a"].items])


def test_volume_that_is_not_mounted_yet_is_pending() -> None:
    row = ObjectRow("shop", "a", "web", "node-1", "", "", problem=NOT_MOUNTED)
    (found,) = workloads((row,)).values()
    assert (State.PENDING, NOT_MOUNTED, ()) == (found.state, found.problem, found.items)


def test_most_urgent_workloads_come_first() -> None:
    """Then by namespace and name."""
    inventory = take_inventory(example_facts())
    ranks = [list(State).index(each.state) for each in inventory.workloads]
    assert sorted(ranks) == ranks
    assert {
        State.FAILING: 2,
        State.STALE: 2,
        State.EXPIRING: 1,
        State.PENDING: 1,
        State.HEALTHY: 36,
    } == count_states(inventory.workloads)
