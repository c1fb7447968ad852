"""Schedule: when a volume is due, for kubelet's calls and the timer alike."""

from __future__ import annotations

from datetime import UTC, datetime

from keyferry.driver.publish.schedule import RefreshSchedule
from keyferry.driver.volumes.volume_table import Volume
from keyferry.kubernetes.objects import PodRef
from keyferry.records import replace
from keyferry.resilience.freshness import RefreshSlot, phase_of
from tests.fakes.clock import START, ManualClock

INTERVAL = 120.0
TARGET = "/pods/1/mount"
SECONDS = range(int(INTERVAL) + 1)


def volume(fetched: float | None = 0.0, target: str = TARGET, *slots: RefreshSlot) -> Volume:
    pod = PodRef(namespace="shop", name="web-0", uid="1")
    return Volume(
        target,
        pod,
        "web",
        datetime(2030, 1, 1, tzinfo=UTC),
        fetched_monotonic=fetched,
        refresh_slots=slots,
    )


def schedule(
    clock: ManualClock, *, interval: float = INTERVAL, node: str = "node-1"
) -> RefreshSchedule:
    return RefreshSchedule(interval=interval, node=node, clock=clock)


def due_at(schedule: RefreshSchedule, clock: ManualClock, one: Volume) -> int:
    """The second in which it is due for the first time."""
    for second in SECONDS:
        clock.now = float(second)
        if schedule.is_due(one):
            return second
    raise AssertionError("not due within an interval")


SLOT = RefreshSlot(phase=0.25, validated_at=0.0)


def test_volumes_of_one_identity_are_due_at_the_same_time() -> None:
    """A volume with unknown identities has its own slot."""
    clock = ManualClock()
    found = schedule(clock)
    volumes = volume(0.0, "/a", SLOT), volume(0.0, "/b", SLOT), volume(0.0, "/c")
    moments = [due_at(found, clock, one) for one in volumes]
    assert moments[0] == moments[1] == int(INTERVAL * SLOT.phase)
    assert int(INTERVAL * phase_of("node-1", "/c")) + 1 == moments[2]


def test_age_of_cached_content_decides() -> None:
    """A pod that started with cached content is due with the pod that fetched it."""
    clock = ManualClock()
    found = schedule(clock)
    clock.now = float(due_at(found, clock, volume(0.0, TARGET, SLOT)))
    assert found.is_due(volume(clock.now, TARGET, SLOT))
    assert not found.is_due(volume(clock.now, TARGET, SLOT), last_attempt=clock.now)


def test_oldest_content_of_several_identities_decides() -> None:
    """The slot of the second identity passes first."""
    clock = ManualClock()
    other = RefreshSlot(phase=0.125, validated_at=0.0)
    both = volume(0.0, TARGET, SLOT, other)
    assert int(INTERVAL * other.phase) == due_at(schedule(clock), clock, both)


def test_restored_volume_has_its_own_slots() -> None:
    """An earlier process fetched its content."""
    clock = ManualClock()
    found = schedule(clock)
    assert int(INTERVAL * phase_of("node-1", TARGET)) + 1 == due_at(
        found, clock, volume(None, TARGET, SLOT)
    )
    assert int(INTERVAL * SLOT.phase) == due_at(found, clock, volume(0.0, TARGET, SLOT))


def test_slots_differ_between_nodes() -> None:
    """The names of nodes spread them evenly."""
    clock = ManualClock()
    moments = [due_at(schedule(clock, node=f"node-{n}"), clock, volume()) for n in range(200)]
    quarters = [sum(q * 30 < moment <= (q + 1) * 30 for moment in moments) for q in range(4)]
    assert 200 == sum(quarters)
    assert min(quarters) > 25


def test_interval_zero_refreshes_with_every_call_of_kubelet() -> None:
    """Whether or not the provider knows the identities."""
    found = schedule(ManualClock(), interval=0.0)
    assert found.is_due(volume())
    assert found.is_due(volume(0.0, TARGET, SLOT))


def test_content_is_overdue_after_two_intervals_of_its_volume() -> None:
    """And a minute. A volume that keeps the content of its mount never is."""
    clock = ManualClock()
    found = schedule(clock)
    fetched = replace(volume(), fetched_at=clock.wall())
    slow = replace(fetched, refresh_interval=10 * INTERVAL)
    kept = replace(fetched, refresh_interval=0.0)
    clock.now = 2 * INTERVAL + 60
    assert not found.is_overdue(fetched)
    clock.now += 1
    assert [True, False, False] == [found.is_overdue(one) for one in (fetched, slow, kept)]
    clock.now = 20 * INTERVAL + 61
    assert [True, True, False] == [found.is_overdue(one) for one in (fetched, slow, kept)]


def test_content_of_an_earlier_process_is_overdue_only_by_the_time_of_this_one() -> None:
    """A pod status may record a time that is an hour too early."""
    clock = ManualClock()
    clock.now = 3600.0
    restored = replace(volume(None), fetched_at=START)
    found = schedule(clock)
    assert not found.is_overdue(restored)
    clock.now += 2 * INTERVAL + 61
    assert found.is_overdue(restored)


def test_content_is_overdue_when_kubelet_does_not_call() -> None:
    """With the interval 0, each of its calls refreshes, about once a minute."""
    clock = ManualClock()
    found, fetched = schedule(clock, interval=0.0), replace(volume(), fetched_at=clock.wall())
    clock.now = 180.0
    assert not found.is_overdue(fetched)
    clock.now = 181.0
    assert found.is_overdue(fetched)
