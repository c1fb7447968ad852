"""keyferry.resilience.fetcher: what is cached, for how long, and for whom, in virtual time."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from keyferry.errors import AccessDeniedError
from keyferry.records import replace
from keyferry.resilience.call_context import CallContext, Purpose
from keyferry.resilience.settings import ResilienceSettings
from tests.fakes.resilience import HOST, ROTATING, now, number_vault, object_key
from tests.fakes.virtual_time import run_in_virtual_time, virtual_time

F, R = Purpose.FIRST, Purpose.REFRESH

# --- cache ----------------------------------------------------------------------------------------


@virtual_time
async def test_first_mount_uses_content_within_the_cache_ttl() -> None:
    async with number_vault() as vault:
        await vault.get()
        vault.value = 2
        await asyncio.sleep(14.9)
        assert 1 == await vault.get()
        await asyncio.sleep(0.2)
        assert 2 == await vault.get()
        assert (2, 1.0, 2.0) == (vault.reads, vault.served("hit"), vault.served("miss"))


@virtual_time
async def test_age_counts_from_the_request_not_from_the_response() -> None:
    """A change while a slow vault responds may be missing in the response."""
    async with number_vault() as vault:
        vault.latency = 10.0
        await vault.get()
        vault.value = 2
        assert 1 == await vault.get(max_age=11.0)
        assert 2 == await vault.get(max_age=9.0)


@virtual_time
async def test_fetch_returns_the_time_and_the_age_of_the_content() -> None:
    """Content that is requested for this call has age 0; revalidation resets the age."""
    async with number_vault() as vault:
        vault.latency = vault.revalidation_latency = 2.0
        requested = await vault.fetch()
        assert (1, 0.0, 0.0) == (requested.value, requested.fetched_at, requested.age)
        await asyncio.sleep(8.0)
        cached = await vault.fetch()
        assert (0.0, 10.0) == (cached.fetched_at, cached.age)
        await asyncio.sleep(111.0)
        revalidated = await vault.fetch(R, revalidate=True)
        assert (0.0, 0.0) == (revalidated.fetched_at, revalidated.age)
        await asyncio.sleep(3.0)
        cached = await vault.fetch(R)
        assert (0.0, 5.0) == (cached.fetched_at, cached.age)


@virtual_time
async def test_content_of_a_joined_call_is_as_old_as_the_call() -> None:
    async with number_vault() as vault:
        vault.latency = 10.0
        first = asyncio.create_task(vault.fetch())
        await asyncio.sleep(4.0)
        joined = await vault.fetch(volume="other")
        assert 4.0 == joined.age
        assert 0.0 == (await first).age


@virtual_time
async def test_repr_of_fetched_content_hides_the_value() -> None:
    async with number_vault() as vault:
        vault.value = 987654321
        assert "987654321" not in repr(await vault.fetch())


@virtual_time
async def test_reuse_can_be_disabled_by_max_age_and_by_the_settings() -> None:
    async with number_vault() as vault:
        await vault.get()
        await vault.get(max_age=0.0)
        assert 2 == vault.reads
    async with number_vault(ResilienceSettings(cache_ttl=0.0)) as vault:
        await vault.get()
        assert 0 == vault.fetcher.cache_bytes
        await vault.get()
        assert 2 == vault.reads


@virtual_time
async def test_refresh_uses_content_that_another_pod_fetched_in_the_interval() -> None:
    """One request per interval, however many pods there are and whenever they refresh."""
    async with number_vault() as vault:
        for number in range(60):
            await vault.get(volume=f"pod-{number}")
        assert 1 == vault.reads
        for _ in range(10):
            for number in range(60):
                await asyncio.sleep(2.0)
                await vault.get(R, volume=f"pod-{number}")
        assert 1 + 10 == vault.reads


@virtual_time
async def test_refresh_returns_a_change_after_one_interval_at_most() -> None:
    async with number_vault() as vault:
        await vault.get(volume="a")
        await asyncio.sleep(119.0)
        assert 1 == await vault.get(R, volume="b")
        vault.value = 2
        await asyncio.sleep(120.0)
        assert 2 == await vault.get(R, volume="b")


@virtual_time
async def test_without_rotation_content_expires_after_the_cache_ttl() -> None:
    async with number_vault(ResilienceSettings(tracks_volumes=True)) as vault:
        await vault.get()
        assert 10 == vault.fetcher.cache_bytes
        await asyncio.sleep(16.1)
        assert 0 == vault.fetcher.cache_bytes


@virtual_time
async def test_with_rotation_used_content_expires_after_two_intervals() -> None:
    async with number_vault() as vault:
        await vault.get()
        await asyncio.sleep(239.0)
        assert 10 == vault.fetcher.cache_bytes
        await asyncio.sleep(2.1)
        assert 0 == vault.fetcher.cache_bytes


@virtual_time
async def test_content_is_dropped_when_its_last_volume_is_removed() -> None:
    async with number_vault() as vault:
        await vault.get(volume="a")
        await vault.get(volume="b")
        await asyncio.sleep(20.0)
        vault.fetcher.release("a")
        assert 10 == vault.fetcher.cache_bytes
        vault.fetcher.release("b")
        assert 0 == vault.fetcher.cache_bytes


@virtual_time
async def test_content_is_not_retained_where_removed_volumes_are_not_reported() -> None:
    """As in a provider behind a socket."""
    async with number_vault(replace(ROTATING, tracks_volumes=False)) as vault:
        await vault.get()
        await asyncio.sleep(16.1)
        assert 0 == vault.fetcher.cache_bytes
        assert vault.fetcher.oldest_content_age is None


@virtual_time
async def test_content_without_a_size_is_not_cached() -> None:
    """A dynamic secret belongs to one pod."""
    async with number_vault() as vault:
        for _ in range(2):
            await vault.fetcher.fetch(object_key(), vault.read, size_of=lambda _: None)
        assert (2, 0) == (vault.reads, vault.fetcher.cache_bytes)


@virtual_time
async def test_age_of_the_oldest_content_is_reported() -> None:
    async with number_vault() as vault:
        await vault.get()
        await asyncio.sleep(130.0)
        assert 130.0 == vault.fetcher.oldest_content_age
        await vault.get(R)
        assert 0.0 == vault.fetcher.oldest_content_age


# --- single flight --------------------------------------------------------------------------------


@virtual_time
async def test_identities_share_neither_calls_nor_content() -> None:
    async with number_vault() as vault:
        vault.latency = 1.0
        await asyncio.gather(*(vault.get(identity=identity) for identity in ("a", "b", "a")))
        assert (2, 1.0) == (vault.reads, vault.served("coalesced"))
        await vault.get(identity="c")
        assert 3 == vault.reads


@virtual_time
async def test_new_call_after_a_canceled_one_is_shared() -> None:
    async with number_vault() as vault:
        vault.latency = 10.0
        first = asyncio.create_task(vault.get())
        await asyncio.sleep(1.0)
        first.cancel()
        second = asyncio.create_task(vault.get())
        await asyncio.sleep(1.0)
        third = asyncio.create_task(vault.get())
        assert (1, 1) == (await second, await third)
        assert 2 == vault.reads


@virtual_time
async def test_first_mount_promotes_the_refresh_that_it_joins() -> None:
    """The promoted request is sent before refreshes that arrived earlier."""
    async with number_vault(replace(ROTATING, qps=1.0, burst=1)) as vault:
        await vault.get(identity="first", max_age=0.0)
        others = [asyncio.create_task(vault.get(R, identity=f"other-{n}")) for n in range(5)]
        refresh = asyncio.create_task(vault.get(R, identity="a"))
        await asyncio.sleep(0.1)
        assert 1 == await vault.get(F, identity="a")
        assert refresh.done()
        assert [False] * 5 == [other.done() for other in others]
        await asyncio.gather(*others)


@virtual_time
async def test_only_idle_limiters_are_dropped() -> None:
    """SecretProviderClasses can name any number of vaults."""

    async def attempt(seconds: float) -> str:
        return "fine"

    async with number_vault() as vault:
        vault.latency = 10.0
        in_flight = asyncio.create_task(vault.get())
        await asyncio.sleep(1.0)
        for number in range(1500):
            await vault.fetcher.transport.send(attempt, CallContext.new(f"vault-{number}"))
        hosts = {limiter.host for limiter in vault.fetcher.limiters()}
        assert HOST in hosts
        assert len(hosts) <= 1000
        await in_flight


# --- all cases mixed ------------------------------------------------------------------------------

Event = tuple[float, str, str, Purpose, bool]


async def check_freshness(events: list[Event]) -> None:
    """Run the events, and check that each fetch returns a value that was current recently."""
    async with number_vault() as vault:
        vault.latency = 1.0
        changes = [(0.0, 1)]
        fetches: list[asyncio.Task[None]] = []

        async def fetch(identity: str, purpose: Purpose, revalidate: bool) -> None:
            start, limit = now(), 15.0 if purpose is F else 120.0
            try:
                value = await vault.get(
                    purpose, identity=identity, volume=identity, revalidate=revalidate
                )
            except AccessDeniedError:
                return
            # A call that was already in flight can be one second older.
            earliest = start - limit - 1.0
            replaced_at = [changed_at for changed_at, _ in changes[1:]] + [float("inf")]
            recent = [
                v for (_, v), end in zip(changes, replaced_at, strict=True) if end >= earliest
            ]
            assert value in recent

        for delay, event, identity, purpose, revalidate in events:
            await asyncio.sleep(delay)
            match event:
                case "fetch":
                    fetches.append(asyncio.create_task(fetch(identity, purpose, revalidate)))
                case "change":
                    vault.value += 1
                    changes.append((now(), vault.value))
                case "cancel" if fetches:
                    fetches[-1].cancel()
                case "remove":
                    vault.fetcher.release(identity)
                case "deny":
                    vault.error = None if vault.error else AccessDeniedError("denied")
                case _:
                    pass
        results = await asyncio.gather(*fetches, return_exceptions=True)
        assert [] == [r for r in results if r and not isinstance(r, asyncio.CancelledError)]
        vault.fetcher.release("a")
        vault.fetcher.release("b")
        await asyncio.sleep(20.0)
        assert 0 == vault.fetcher.cache_bytes


@settings(deadline=None)
@given(
    events=st.lists(
        st.tuples(
            st.sampled_from([0.0, 0.3, 5.0, 40.0]),
            st.sampled_from(["fetch", "fetch", "fetch", "change", "cancel", "remove", "deny"]),
            st.sampled_from(["a", "b"]),
            st.sampled_from(Purpose),
            st.booleans(),
        ),
        max_size=40,
    )
)
def test_content_is_never_older_than_allowed(events: list[Event]) -> None:
    """With changes, canceled mounts, denied requests and revalidations in any order."""
    run_in_virtual_time(check_freshness(events))
