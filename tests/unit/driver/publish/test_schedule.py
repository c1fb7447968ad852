"""Schedule: when a volume is due, for kubelet's calls and the timer alike."""

from __future__ import annotations

from datetime import UTC, datetime

from keyferry.driver.providers import Providers
from keyferry.driver.publish.schedule import RefreshSchedule
from keyferry.driver.volumes.volume_table import Volume
from keyferry.kubernetes.objects import PodRef
from keyferry.resilience.cache_key import CacheKey, IdentityKey
from keyferry.resilience.call_context import CallContext, Purpose
from keyferry.resilience.fetcher import Fetcher
from keyferry.resilience.freshness import phase_of
from keyferry.resilience.settings import ResilienceSettings
from tests.fakes.clock import ManualClock

INTERVAL = 120.0
TARGET = "/pods/1/mount"
SECONDS = range(int(INTERVAL) + 1)


def volume(fetched: float | None = 0.0, target: str = TARGET) -> Volume:
    pod = PodRef(namespace="shop", name="web-0", uid="1")
    return Volume(target, pod, "web", datetime(2030, 1, 1, tzinfo=UTC), fetched_monotonic=fetched)


def schedule(
    clock: ManualClock,
    fetcher: Fetcher | None = None,
    *,
    interval: float = INTERVAL,
    node: str = "node-1",
) -> RefreshSchedule:
    plugins = Providers(
        built_in={}, rows=(), socket_folders=(), max_receive_bytes=1, fetcher=fetcher
    )
    return RefreshSchedule(plugins, interval=interval, node=node, clock=clock)


async def fetcher_with(clock: ManualClock, *targets: str) -> Fetcher:
    """One whose identity is used by the volumes at these targets."""
    fetcher = Fetcher(ResilienceSettings(refresh_interval=INTERVAL, tracks_volumes=True), clock)

    async def call(context: CallContext) -> str:
        return "content"

    key = CacheKey("contoso", IdentityKey("Mode", ("a",)), ("read", "db"))
    for target in targets:
        await fetcher.fetch(
            key, call, purpose=Purpose.FIRST, size_of=lambda _: 1, volume=target, max_age=0.0
        )
    return fetcher


def due_at(schedule: RefreshSchedule, clock: ManualClock, one: Volume) -> int:
    """The second in which it is due for the first time."""
    for second in SECONDS:
        clock.now = float(second)
        if schedule.is_due(one):
            return second
    raise AssertionError("not due within an interval")


async def test_volumes_of_one_identity_are_due_at_the_same_time() -> None:
    """A volume with unknown identities has its own slot."""
    clock = ManualClock()
    fetcher = await fetcher_with(clock, "/a", "/b")
    found = schedule(clock, fetcher)
    moments = [due_at(found, clock, volume(target=target)) for target in ("/a", "/b", "/c")]
    assert moments[0] == moments[1]
    assert int(INTERVAL * phase_of("node-1", "/c")) + 1 == moments[2]
    await fetcher.close()


async def test_age_of_cached_content_decides() -> None:
    """A pod that started with cached content is due with the pod that fetched it."""
    clock = ManualClock()
    fetcher = await fetcher_with(clock, TARGET)
    found = schedule(clock, fetcher)
    clock.now = float(due_at(found, clock, volume()))
    assert found.is_due(volume(fetched=clock.now))
    assert not found.is_due(volume(fetched=clock.now), last_attempt=clock.now)
    await fetcher.close()


async def test_restored_volume_has_its_own_slots() -> None:
    """The provider may know another volume at this path."""
    clock = ManualClock()
    fetcher = await fetcher_with(clock, TARGET)
    without_identity, with_identity = schedule(clock), schedule(clock, fetcher)
    assert due_at(without_identity, clock, volume(None)) == due_at(
        with_identity, clock, volume(None)
    )
    assert due_at(with_identity, clock, volume(0.0)) != due_at(with_identity, clock, volume(None))
    await fetcher.close()


def test_slots_differ_between_nodes() -> None:
    """The names of nodes spread them evenly."""
    clock = ManualClock()
    moments = [due_at(schedule(clock, node=f"node-{n}"), clock, volume()) for n in range(200)]
    quarters = [sum(q * 30 < moment <= (q + 1) * 30 for moment in moments) for q in range(4)]
    assert 200 == sum(quarters)
    assert min(quarters) > 25


async def test_interval_zero_refreshes_with_every_call_of_kubelet() -> None:
    """Whether or not the provider knows the identities."""
    clock = ManualClock()
    fetcher = Fetcher(ResilienceSettings(refresh_interval=0.0, tracks_volumes=True), clock)
    assert schedule(clock, fetcher, interval=0.0).is_due(volume())
    assert schedule(clock, interval=0.0).is_due(volume())
    await fetcher.close()
