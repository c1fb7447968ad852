"""keyferry.resilience.fetcher: what is held for whom and how long, and what is remembered."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyferry.errors import (
    AccessDeniedError,
    ConnectionFailedError,
    IdentityError,
    InternalError,
    KeyferryError,
    ObjectNotFoundError,
    ObjectUnusableError,
    VaultError,
    VaultThrottledError,
    VaultUnavailableError,
)
from keyferry.resilience.cache_key import CacheKey, IdentityKey
from keyferry.resilience.call_context import CallContext, Purpose
from keyferry.resilience.fetcher import Fetcher
from keyferry.resilience.settings import ResilienceSettings
from tests.fakes.virtual_time import LoopClock, max_jitter, run_in_virtual_time

ROTATING = ResilienceSettings(refresh_interval=120.0, tracks_volumes=True, qps=0.0)
F, R = Purpose.FIRST, Purpose.REFRESH


def key(name: str = "db", who: str = "a") -> CacheKey:
    return CacheKey("contoso", IdentityKey("Mode", (who,)), ("read", name))


@dataclass
class Vault:
    """A vault whose content is a number; it counts what it is asked.

    Attributes:
        fetcher: through which it is asked.
        value: what it holds.
        calls: requests for the content.
        revalidations: requests for a proof.
        error: what it says instead.
        takes: seconds for an answer.
        revalidation_takes: seconds for a proof.
    """

    fetcher: Fetcher
    value: int = 1
    calls: int = 0
    revalidations: int = 0
    error: KeyferryError | None = None
    takes: float = 0.0
    revalidation_takes: float = 0.0

    async def read(self, context: CallContext) -> int:
        async def attempt(seconds: float) -> int:
            self.calls += 1
            await asyncio.sleep(self.takes)
            if self.error:
                raise self.error
            return self.value

        return await self.fetcher.transport.send(attempt, context)

    async def revalidate(self, cached: int, context: CallContext) -> bool:
        async def attempt(seconds: float) -> bool:
            self.revalidations += 1
            await asyncio.sleep(self.revalidation_takes)
            return cached == self.value

        return await self.fetcher.transport.send(attempt, context)

    async def fetch(
        self,
        purpose: Purpose = F,
        *,
        who: str = "a",
        volume: str = "pod",
        max_age: float | None = None,
        revalidate: bool = False,
    ) -> int:
        fetched = await self.fetcher.fetch(
            key(who=who),
            self.read,
            purpose=purpose,
            max_age=max_age,
            size_of=lambda _: 10,
            revalidate=self.revalidate if revalidate else None,
            volume=volume,
        )
        return fetched.value

    def fetches(self, result: str) -> float:
        """How often a fetch got its answer in this way."""
        labels = {"vault": "contoso", "identity": "Mode", "result": result}
        registry = self.fetcher.metrics.registry
        return registry.get_sample_value("keyferry_object_requests_total", labels) or 0.0


Story = Callable[[Vault], Awaitable[None]]


def play(story: Story, limits: ResilienceSettings = ROTATING) -> None:
    async def run() -> None:
        economy = Fetcher(limits, LoopClock(), random=max_jitter)
        await story(Vault(economy))
        await economy.close()

    run_in_virtual_time(run())


# --- reuse ----------------------------------------------------------------------------------------


def test_a_first_mount_takes_what_was_fetched_a_moment_ago() -> None:
    """For fifteen seconds; then the vault is asked."""

    async def story(vault: Vault) -> None:
        await vault.fetch()
        vault.value = 2
        await asyncio.sleep(14.9)
        assert 1 == await vault.fetch()
        await asyncio.sleep(0.2)
        assert 2 == await vault.fetch()
        assert (2, 1.0, 2.0) == (vault.calls, vault.fetches("hit"), vault.fetches("miss"))

    play(story)


def test_an_answer_is_as_old_as_its_question() -> None:
    """What changed while a slow vault was answering may not be in it."""

    async def story(vault: Vault) -> None:
        vault.takes = 10.0
        await vault.fetch()
        vault.value = 2
        assert 1 == await vault.fetch(max_age=11.0)
        assert 2 == await vault.fetch(max_age=9.0)

    play(story)


def test_a_call_that_was_given_up_takes_no_other_along() -> None:
    """Whoever asks anew meanwhile is joined by those who come then."""

    async def story(vault: Vault) -> None:
        vault.takes = 10.0
        first = asyncio.create_task(vault.fetch())
        await asyncio.sleep(1.0)
        first.cancel()
        second = asyncio.create_task(vault.fetch())
        await asyncio.sleep(1.0)
        third = asyncio.create_task(vault.fetch())
        assert (1, 1) == (await second, await third)
        assert 2 == vault.calls

    play(story)


def test_only_vaults_that_do_nothing_are_forgotten() -> None:
    """Classes can name any number; what one of them has said to wait is not lost."""

    async def story(vault: Vault) -> None:
        async def answer(seconds: float) -> str:
            return "fine"

        vault.takes = 10.0
        asking = asyncio.create_task(vault.fetch())
        await asyncio.sleep(1.0)
        for number in range(1500):
            await vault.fetcher.transport.send(answer, CallContext.new(f"vault-{number}"))
        gates = {gate.host for gate in vault.fetcher.limiters()}
        assert "contoso" in gates
        assert len(gates) <= 1000
        await asking

    play(story)


def test_reuse_can_be_switched_off() -> None:
    """For everybody, or by who asks."""

    async def story(vault: Vault) -> None:
        await vault.fetch()
        await vault.fetch(max_age=0.0)
        assert 2 == vault.calls

    async def never(vault: Vault) -> None:
        await vault.fetch()
        assert 0 == vault.fetcher.cache_bytes
        await vault.fetch()
        assert 2 == vault.calls

    play(story)
    play(never, ResilienceSettings(cache_ttl=0.0))


def test_a_refresh_takes_what_another_pod_fetched_within_the_interval() -> None:
    """One call in an interval, however many pods and whenever they are due."""

    async def story(vault: Vault) -> None:
        for number in range(60):
            await vault.fetch(volume=f"pod-{number}")
        assert 1 == vault.calls
        for _ in range(10):
            for number in range(60):
                await asyncio.sleep(2.0)
                await vault.fetch(R, volume=f"pod-{number}")
        assert 1 + 10 == vault.calls

    play(story)


def test_a_refresh_sees_a_change_after_one_interval_at_the_latest() -> None:
    """Whatever the moments of the pods."""

    async def story(vault: Vault) -> None:
        await vault.fetch(volume="a")
        await asyncio.sleep(119.0)
        assert 1 == await vault.fetch(R, volume="b")
        vault.value = 2
        await asyncio.sleep(120.0)
        assert 2 == await vault.fetch(R, volume="b")

    play(story)


def test_without_rotation_nothing_is_held_beyond_the_moment() -> None:
    """Not even asked for."""

    async def story(vault: Vault) -> None:
        await vault.fetch()
        assert 10 == vault.fetcher.cache_bytes
        await asyncio.sleep(16.1)
        assert 0 == vault.fetcher.cache_bytes

    play(story, ResilienceSettings(tracks_volumes=True))


def test_with_rotation_an_answer_that_is_used_is_held_for_two_intervals() -> None:
    """Nobody has renewed it for so long: the volume is gone, or the vault."""

    async def story(vault: Vault) -> None:
        await vault.fetch()
        await asyncio.sleep(239.0)
        assert 10 == vault.fetcher.cache_bytes
        await asyncio.sleep(2.1)
        assert 0 == vault.fetcher.cache_bytes

    play(story)


def test_what_the_last_pod_used_is_dropped_when_it_goes() -> None:
    """At once, when it is older than a first mount would take."""

    async def story(vault: Vault) -> None:
        await vault.fetch(volume="a")
        await vault.fetch(volume="b")
        await asyncio.sleep(20.0)
        vault.fetcher.release("a")
        assert 10 == vault.fetcher.cache_bytes
        vault.fetcher.release("b")
        assert 0 == vault.fetcher.cache_bytes

    play(story)


def test_who_cannot_tell_when_volumes_go_holds_nothing_for_them() -> None:
    """A provider behind a socket never hears of it."""

    async def story(vault: Vault) -> None:
        await vault.fetch()
        await asyncio.sleep(16.1)
        assert 0 == vault.fetcher.cache_bytes
        assert vault.fetcher.oldest_content_age is None

    play(story, replace(ROTATING, tracks_volumes=False))


def test_an_answer_that_says_so_is_not_held() -> None:
    """A lease is of the one that it was made for."""

    async def story(vault: Vault) -> None:
        for _ in range(2):
            await vault.fetcher.fetch(key(), vault.read, size_of=lambda _: None)
        assert (2, 0) == (vault.calls, vault.fetcher.cache_bytes)

    play(story)


def test_the_age_of_the_oldest_content_is_told() -> None:
    """Since the vault was asked; a refresh makes it young."""

    async def story(vault: Vault) -> None:
        await vault.fetch()
        await asyncio.sleep(130.0)
        assert 130.0 == vault.fetcher.oldest_content_age
        await vault.fetch(R)
        assert 0.0 == vault.fetcher.oldest_content_age

    play(story)


def test_two_identities_never_share() -> None:
    """Neither a call under way nor a value held."""

    async def story(vault: Vault) -> None:
        vault.takes = 1.0
        await asyncio.gather(vault.fetch(who="a"), vault.fetch(who="b"), vault.fetch(who="a"))
        assert (2, 1.0) == (vault.calls, vault.fetches("coalesced"))
        await vault.fetch(who="c")
        assert 3 == vault.calls

    play(story)


def test_a_pod_that_waits_hurries_the_refresh_that_it_joins() -> None:
    """The refreshes of others, which came before it, let it pass."""

    async def story(vault: Vault) -> None:
        await vault.fetch(who="first", max_age=0.0)
        others = [asyncio.create_task(vault.fetch(R, who=f"other-{n}")) for n in range(5)]
        refresh = asyncio.create_task(vault.fetch(R, who="a"))
        await asyncio.sleep(0.1)
        assert 1 == await vault.fetch(F, who="a")
        assert refresh.done()
        assert [False] * 5 == [other.done() for other in others]
        await asyncio.gather(*others)

    play(story, replace(ROTATING, qps=1.0, burst=1))


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ObjectNotFoundError("none"), AccessDeniedError("no")])
def test_a_refusal_is_remembered_for_a_moment(error: KeyferryError) -> None:
    """Each who asks gets a copy."""

    async def story(vault: Vault) -> None:
        vault.error = error
        told = []
        for _ in range(3):
            with pytest.raises(type(error)) as caught:
                await vault.fetch()
            told.append(caught.value)
        assert (1, 2.0) == (vault.calls, vault.fetches("negative_hit"))
        assert 3 == len({id(one) for one in told})
        vault.error = None
        await asyncio.sleep(5.0)
        assert 1 == await vault.fetch()

    play(story)


def test_a_refusal_is_of_one_identity_and_one_object() -> None:
    """Nobody else hears of it."""

    async def story(vault: Vault) -> None:
        vault.error = AccessDeniedError("no")
        with pytest.raises(AccessDeniedError):
            await vault.fetch(who="a")
        vault.error = None
        assert 1 == await vault.fetch(who="b")

    play(story)


def test_what_is_remembered_of_refusals_is_bounded() -> None:
    """Classes can name any number of objects; the oldest refusals go first."""

    async def story(vault: Vault) -> None:
        vault.error = ObjectNotFoundError("no")
        for number in range(5000):
            with pytest.raises(ObjectNotFoundError):
                await vault.fetch(who=str(number))
        with pytest.raises(ObjectNotFoundError):
            await vault.fetch(who="4999")
        assert 5000 == vault.calls
        with pytest.raises(ObjectNotFoundError):
            await vault.fetch(who="0")
        assert 5001 == vault.calls

    play(story)


@pytest.mark.parametrize(
    "error",
    [
        VaultError("failed with status 503"),
        ConnectionFailedError("failed to connect"),
        VaultThrottledError("throttles"),
        VaultUnavailableError("left alone"),
    ],
)
def test_a_pod_that_starts_while_the_vault_is_away_gets_what_others_use(
    error: KeyferryError,
) -> None:
    """Of the same identity alone; a refresh is told, and the content is as old as it is."""

    async def story(vault: Vault) -> None:
        await vault.fetch(volume="runs")
        await asyncio.sleep(100.0)
        vault.error = error
        assert 1 == await vault.fetch(volume="starts")
        assert (2, 1.0) == (vault.calls, vault.fetches("stale"))
        assert 100.0 == vault.fetcher.oldest_content_age
        vault.fetcher.release("runs")
        assert 100.0 == vault.fetcher.oldest_content_age
        with pytest.raises(type(error)):
            await vault.fetch(who="b")
        await asyncio.sleep(21.0)
        with pytest.raises(type(error)):
            await vault.fetch(R, volume="starts")
        assert 1 == await vault.fetch(volume="starts")
        await asyncio.sleep(120.0)
        with pytest.raises(type(error)):
            await vault.fetch(volume="late")

    play(story)


@pytest.mark.parametrize(
    "error",
    [
        IdentityError("no token"),
        AccessDeniedError("no"),
        ObjectNotFoundError("gone"),
        ObjectUnusableError("strange"),
        InternalError("a defect"),
    ],
)
def test_what_is_refused_is_not_replaced_by_what_others_use(error: KeyferryError) -> None:
    """The vault, or who gives tokens, has said no."""

    async def story(vault: Vault) -> None:
        await vault.fetch()
        await asyncio.sleep(100.0)
        vault.error = error
        with pytest.raises(type(error)):
            await vault.fetch()

    play(story)


def test_who_wants_nothing_old_gets_nothing_old_of_a_vault_that_is_away_either() -> None:
    """By --cache-ttl=0s; nor does anybody what no vault has been asked about for an hour."""

    async def none(vault: Vault) -> None:
        await vault.fetch()
        vault.error = VaultError("failed with status 503")
        with pytest.raises(VaultError):
            await vault.fetch()

    async def an_hour(vault: Vault) -> None:
        await vault.fetch()
        for _ in range(30):
            await asyncio.sleep(120.0)
            vault.fetcher.mark_validated([key()], validated_at=vault.fetcher.now())
        await asyncio.sleep(20.0)
        vault.error = VaultError("failed with status 503")
        with pytest.raises(VaultError):
            await vault.fetch()

    play(none, replace(ROTATING, cache_ttl=0.0))
    play(an_hour)


def test_other_failures_are_not_remembered() -> None:
    """They may be over with the next call."""

    async def story(vault: Vault) -> None:
        vault.error = VaultError("strange")
        for _ in range(2):
            with pytest.raises(VaultError):
                await vault.fetch()
        assert 2 == vault.calls

    play(story)


def test_who_lost_the_permission_gets_nothing_that_was_held() -> None:
    """The vault's last word counts for the whole node."""

    async def story(vault: Vault) -> None:
        await vault.fetch()
        vault.error = AccessDeniedError("no")
        with pytest.raises(AccessDeniedError):
            await vault.fetch(max_age=0.0)
        with pytest.raises(AccessDeniedError):
            await vault.fetch()
        assert 0 == vault.fetcher.cache_bytes

    play(story)


# --- proofs ---------------------------------------------------------------------------------------


def test_a_proof_spares_the_content() -> None:
    """The old answer counts as young again; the next pod asks nobody."""

    async def story(vault: Vault) -> None:
        await vault.fetch()
        await asyncio.sleep(121.0)
        assert 1 == await vault.fetch(R, revalidate=True)
        assert 1 == await vault.fetch(R, revalidate=True, volume="other")
        assert (1, 1, 1.0) == (vault.calls, vault.revalidations, vault.fetches("revalidated"))

    play(story)


def test_what_has_changed_is_fetched() -> None:
    """Once."""

    async def story(vault: Vault) -> None:
        await vault.fetch()
        vault.value = 2
        await asyncio.sleep(121.0)
        assert 2 == await vault.fetch(R, revalidate=True)
        assert (2, 1) == (vault.calls, vault.revalidations)

    play(story)


def test_a_proof_is_as_old_as_its_question() -> None:
    """What changed while the vault was proving is seen by who wants it younger."""

    async def story(vault: Vault) -> None:
        await vault.fetch()
        await asyncio.sleep(121.0)
        vault.revalidation_takes = 10.0
        await vault.fetch(R, revalidate=True)
        assert (1, 1) == (vault.calls, vault.revalidations)
        await vault.fetch(max_age=11.0)
        assert 1 == vault.calls
        await vault.fetch(max_age=9.0)
        assert 2 == vault.calls

    play(story)


def test_a_proof_counts_for_an_hour_at_most() -> None:
    """It tells nothing of a permission that was taken away; the content does."""

    async def story(vault: Vault) -> None:
        await vault.fetch()
        for _ in range(29):
            await asyncio.sleep(121.0)
            await vault.fetch(R, revalidate=True)
        assert (1, 29) == (vault.calls, vault.revalidations)
        assert {key(): 1} == vault.fetcher.select_revalidatable(lambda key, value: value == 1)
        await asyncio.sleep(121.0)
        assert {} == vault.fetcher.select_revalidatable(lambda key, value: True)
        vault.error = AccessDeniedError("no")
        with pytest.raises(AccessDeniedError):
            await vault.fetch(R, revalidate=True)
        assert (2, 29) == (vault.calls, vault.revalidations)

    play(story)


def test_a_first_mount_takes_no_proof() -> None:
    """A pod that starts gets the content itself, which is as cheap."""

    async def story(vault: Vault) -> None:
        await vault.fetch(revalidate=True)
        await asyncio.sleep(121.0)
        await vault.fetch(revalidate=True)
        assert (2, 0) == (vault.calls, vault.revalidations)

    play(story)


# --- all together ---------------------------------------------------------------------------------

Event = tuple[float, str, str, Purpose, bool]


@settings(deadline=None)
@given(
    events=st.lists(
        st.tuples(
            st.sampled_from([0.0, 0.3, 5.0, 40.0]),
            st.sampled_from(["fetch", "fetch", "fetch", "change", "cancel", "gone", "refuse"]),
            st.sampled_from(["a", "b"]),
            st.sampled_from(Purpose),
            st.booleans(),
        ),
        max_size=40,
    )
)
def test_no_answer_is_older_than_allowed_whatever_happens(events: list[Event]) -> None:
    """Of changes, cancelled mounts, refusals and proofs, mixed: each gets what was true lately."""

    async def story(vault: Vault) -> None:
        vault.takes = 1.0
        now = asyncio.get_running_loop().time
        changes = [(0.0, 1)]
        tasks: list[asyncio.Task[None]] = []

        async def one(who: str, purpose: Purpose, proof: bool) -> None:
            start, limit = now(), 15.0 if purpose is F else 120.0
            try:
                got = await vault.fetch(purpose, who=who, volume=who, revalidate=proof)
            except AccessDeniedError:
                return
            # One second more for a call that was already under way.
            earliest = start - limit - 1.0
            ends = [moment for moment, _ in changes[1:]] + [float("inf")]
            alive = [v for (_, v), end in zip(changes, ends, strict=True) if end >= earliest]
            assert got in alive

        for pause, verb, who, purpose, proof in events:
            await asyncio.sleep(pause)
            match verb:
                case "fetch":
                    tasks.append(asyncio.create_task(one(who, purpose, proof)))
                case "change":
                    vault.value += 1
                    changes.append((now(), vault.value))
                case "cancel" if tasks:
                    tasks[-1].cancel()
                case "gone":
                    vault.fetcher.release(who)
                case "refuse":
                    vault.error = None if vault.error else AccessDeniedError("no")
                case _:
                    pass
        results = await asyncio.gather(*tasks, return_exceptions=True)
        wrong = [r for r in results if r and not isinstance(r, asyncio.CancelledError)]
        assert [] == wrong
        vault.fetcher.release("a")
        vault.fetcher.release("b")
        await asyncio.sleep(20.0)
        assert 0 == vault.fetcher.cache_bytes

    play(story)
