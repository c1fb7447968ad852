"""Host limiter: turns, tries and pauses of one vault, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyferry.errors import (
    ConnectionFailedError,
    ObjectNotFoundError,
    Stage,
    VaultError,
    VaultThrottledError,
    VaultUnavailableError,
)
from keyferry.net.retryable import RetryableFailure
from keyferry.resilience.call_context import CallContext, Purpose
from keyferry.resilience.fetcher import Fetcher
from keyferry.resilience.settings import ResilienceSettings
from tests.fakes.virtual_time import LoopClock, run_in_virtual_time

PLAIN = ResilienceSettings(qps=0.0)


def broken() -> RetryableFailure:
    return RetryableFailure(
        ConnectionFailedError("failed to connect", "Look.", stage=Stage.CONNECT)
    )


def throttled(retry_after: float | None = None) -> RetryableFailure:
    return RetryableFailure(VaultThrottledError("failed to read: throttles"), retry_after)


@dataclass
class Vault:
    """A vault that answers as it is told, and writes down when it was asked.

    Attributes:
        economy: through which it is asked.
        answers: what it says, in order; the last one for ever.
        takes: seconds until an answer.
        asked: when each request came.
        most: the greatest number of requests at the same time.
    """

    economy: Fetcher
    answers: list[str | RetryableFailure | BaseException] = field(default_factory=lambda: ["fine"])
    takes: float = 0.0
    asked: list[float] = field(default_factory=list)
    inside: int = 0
    most: int = 0

    async def attempt(self, seconds: float) -> str | RetryableFailure:
        """One request."""
        self.asked.append(asyncio.get_running_loop().time())
        answer = self.answers[min(len(self.asked), len(self.answers)) - 1]
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            await asyncio.sleep(self.takes)
        finally:
            self.inside -= 1
        if isinstance(answer, BaseException):
            raise answer
        return answer

    async def send(self, context: CallContext) -> str:
        return await self.economy.transport.send(self.attempt, context)

    async def ask(self, purpose: Purpose = Purpose.FIRST) -> str:
        """One request through the economy."""
        return await self.send(CallContext.new("contoso", purpose))

    def asking(self, purpose: Purpose = Purpose.FIRST) -> asyncio.Task[str]:
        """The same, beside everything else."""
        return asyncio.create_task(self.ask(purpose))


Story = Callable[[Vault], Awaitable[None]]


def play(
    story: Story,
    *answers: str | RetryableFailure | BaseException,
    limits: ResilienceSettings = PLAIN,
    takes: float = 0.0,
    jitter: float = 1.0,
) -> None:
    """Run `story` with a vault of its own in virtual time."""

    async def run() -> None:
        economy = Fetcher(limits, LoopClock(), random=lambda: jitter)
        await story(Vault(economy, list(answers) or ["fine"], takes))
        await economy.close()

    run_in_virtual_time(run())


def now() -> float:
    return asyncio.get_running_loop().time()


# --- tries ----------------------------------------------------------------------------------------


def test_a_failure_is_tried_again_with_pauses_that_double() -> None:
    """Drawn from their whole length: here the dice show half of it."""

    async def story(vault: Vault) -> None:
        assert "fine" == await vault.ask()
        assert [0.0, 0.4, 1.2] == pytest.approx(vault.asked)

    play(story, broken(), broken(), "fine", jitter=0.5)


def test_the_last_of_four_failures_is_told_with_their_number() -> None:
    """With its remedy and its stage."""

    async def story(vault: Vault) -> None:
        with pytest.raises(ConnectionFailedError, match=r"failed to connect \(4 tries\)"):
            await vault.ask()
        assert 4 == len(vault.asked)

    play(story, broken(), broken(), broken(), broken())


def test_an_error_that_no_other_try_mends_passes_through() -> None:
    """At once."""

    async def story(vault: Vault) -> None:
        with pytest.raises(ObjectNotFoundError):
            await vault.ask()
        assert [0.0] == vault.asked

    play(story, ObjectNotFoundError("gone"))


# --- a vault that throttles -----------------------------------------------------------------------


def test_a_pause_that_the_vault_asks_for_holds_for_everybody() -> None:
    """Also for who comes later; then all go, the first at once and the others by the rate."""

    async def story(vault: Vault) -> None:
        first = vault.asking()
        await asyncio.sleep(1)
        others = [vault.asking() for _ in range(4)]
        await asyncio.gather(first, *others)
        assert [0.0, 7.0] == pytest.approx(vault.asked[:2])
        # Half of 10 a second, growing.
        assert all(7.0 < moment < 7.9 for moment in vault.asked[2:])
        assert 6 == len(vault.asked)

    play(story, throttled(7.0), "fine", limits=ResilienceSettings(qps=10.0))


def test_without_a_pause_of_its_own_a_throttling_vault_gets_longer_and_longer_ones() -> None:
    """0.8 s, 1.6, 3.2; a zero is no pause of its own."""

    async def story(vault: Vault) -> None:
        await vault.ask()
        assert [0.0, 0.8, 2.4, 5.6] == pytest.approx(vault.asked)

    play(story, throttled(), throttled(0.0), throttled(), "fine")


def test_a_pause_of_our_own_is_drawn_from_its_whole_length() -> None:
    """So that the nodes of a cluster do not come back in step."""

    async def story(vault: Vault) -> None:
        await vault.ask()
        assert [0.0, 0.4, 1.2] == pytest.approx(vault.asked)

    play(story, throttled(), throttled(), "fine", jitter=0.5)


def test_each_try_is_counted_by_how_it_ended() -> None:
    """Throttled and failed are told apart; what the vault answered in the end is neither."""

    def counted(vault: Vault) -> dict[str, float | None]:
        registry = vault.economy.metrics.registry
        counts = {}
        for outcome in ("answered", "throttled", "failed"):
            labels = {"vault": "contoso", "identity": "", "outcome": outcome}
            counts[outcome] = registry.get_sample_value("keyferry_vault_requests_total", labels)
        return counts

    async def story(vault: Vault) -> None:
        await vault.ask()
        assert {"answered": 1.0, "throttled": 2.0, "failed": 1.0} == counted(vault)
        with pytest.raises(VaultError):
            await vault.ask()
        assert {"answered": 1.0, "throttled": 2.0, "failed": 2.0} == counted(vault)

    end = VaultError("sends more than an answer may have")
    play(story, throttled(), broken(), throttled(1.0), "fine", end)


def test_requests_that_were_on_the_way_together_lengthen_the_pause_once() -> None:
    """Ten that a vault throttles at once are one throttling, not ten."""

    async def story(vault: Vault) -> None:
        await asyncio.gather(*(vault.ask() for _ in range(10)))
        assert [0.0] * 10 == vault.asked[:10]
        assert 1.0 + 0.8 == pytest.approx(vault.asked[10])

    play(story, *[throttled()] * 10, "fine", takes=1.0)


def test_a_request_is_tried_again_as_long_as_the_vault_throttles_and_there_is_time() -> None:
    """More often than four times: "later" is no failure."""

    async def story(vault: Vault) -> None:
        await vault.ask()
        assert 10 == len(vault.asked)

    play(story, *[throttled(5.0)] * 9, "fine")


def test_a_pause_that_no_request_can_wait_for_ends_them_all_at_once() -> None:
    """The one that hears it, and those that come meanwhile; they say until when."""

    async def story(vault: Vault) -> None:
        with pytest.raises(VaultThrottledError, match="failed to read: throttles"):
            await vault.ask()
        with pytest.raises(VaultThrottledError, match=r"wants no call .* until 22:18:20 UTC"):
            await vault.ask()
        assert (0.0, [0.0]) == (now(), vault.asked)
        await asyncio.sleep(250)
        assert "fine" == await vault.ask()
        assert [0.0, 300.0] == vault.asked

    play(story, throttled(300.0), "fine")


@pytest.mark.parametrize("seconds", [601.0, 86_400.0, 999_999_999_999.0])
def test_a_vault_that_wants_to_be_left_alone_for_ever_is_asked_again_every_ten_minutes(
    seconds: float,
) -> None:
    """A wish beyond all measure, of a proxy perhaps, is no end of the node."""

    async def story(vault: Vault) -> None:
        for _ in range(2):
            with pytest.raises(VaultThrottledError, match="failed to read: throttles"):
                await vault.ask()
            with pytest.raises(VaultThrottledError, match="wants no call"):
                await vault.ask()
            await asyncio.sleep(590)
        assert "fine" == await vault.ask()
        assert [0.0, 600.0] == pytest.approx(vault.asked[:2], abs=11)
        assert 3 == len(vault.asked)

    play(story, throttled(seconds), throttled(seconds), "fine")


# --- turns ----------------------------------------------------------------------------------------


def test_so_many_requests_at_once_and_no_more() -> None:
    """The others wait for a free place."""

    async def story(vault: Vault) -> None:
        await asyncio.gather(*(vault.ask() for _ in range(10)))
        assert (3, 4.0) == (vault.most, now())

    play(story, limits=replace(PLAIN, max_concurrency=3), takes=1.0)


def test_first_mounts_go_before_refreshes() -> None:
    """The refreshes came earlier."""

    async def story(vault: Vault) -> None:
        order: list[str] = []

        async def ask(name: str, purpose: Purpose) -> None:
            await vault.ask(purpose)
            order.append(name)

        tasks = [
            asyncio.create_task(ask(f"{purpose.value}{number}", purpose))
            for purpose in (Purpose.REFRESH, Purpose.FIRST)
            for number in range(3)
        ]
        await asyncio.gather(*tasks)
        # The first one found nobody before it.
        expected = ["refresh0", "first0", "first1", "first2", "refresh1", "refresh2"]
        assert expected == order

    play(story, limits=ResilienceSettings(qps=1.0, burst=1))


def test_refreshes_do_not_starve() -> None:
    """However many pods start."""

    async def story(vault: Vault) -> None:
        await vault.ask()
        refresh = vault.asking(Purpose.REFRESH)
        pods = []
        while not refresh.done():
            pods.append(vault.asking())
            await asyncio.sleep(0.5)
        assert now() < 45
        for pod in pods:
            pod.cancel()
        await asyncio.wait(pods)

    play(story, limits=ResilienceSettings(qps=1.0, burst=1))


def test_who_joins_a_waiting_refresh_for_a_first_mount_hurries_it() -> None:
    """It goes before the other refreshes."""

    async def story(vault: Vault) -> None:
        await vault.ask()
        others = [vault.asking(Purpose.REFRESH) for _ in range(5)]
        context = CallContext.new("contoso", Purpose.REFRESH)
        joined = asyncio.create_task(vault.send(context))
        await asyncio.sleep(0.5)
        context.priority.promote()
        await joined
        assert [False] * 5 == [other.done() for other in others]
        await asyncio.gather(*others)

    play(story, limits=ResilienceSettings(qps=1.0, burst=1))


def test_whose_turn_does_not_come_in_time_is_told_why() -> None:
    """With the flag to turn."""

    async def story(vault: Vault) -> None:
        results = await asyncio.gather(*(vault.ask() for _ in range(20)), return_exceptions=True)
        errors = [error for error in results if isinstance(error, VaultThrottledError)]
        assert 10 == len(errors)
        assert "a call to contoso waited 10 s for its turn" in errors[0].problem
        assert "--vault-qps" in errors[0].remedy
        assert 10.0 <= now() <= 12.0

    play(story, limits=ResilienceSettings(qps=1.0, burst=1, call_timeout=10.0))


def test_who_is_cancelled_while_waiting_costs_nobody_a_turn() -> None:
    """Nor a place among those at once."""

    async def story(vault: Vault) -> None:
        first = vault.asking()
        await asyncio.sleep(0)
        waiting = [vault.asking() for _ in range(3)]
        await asyncio.sleep(0.1)
        for task in waiting[:2]:
            task.cancel()
        await asyncio.gather(first, waiting[2])
        assert [0.0, 1.0] == vault.asked

    play(story, limits=ResilienceSettings(qps=1.0, burst=1, max_concurrency=1))


def test_who_comes_in_the_moment_in_which_the_queue_has_run_empty_is_served() -> None:
    """Serving ends with the last one who waits; it takes nobody along who comes then."""

    async def story(vault: Vault) -> None:
        await vault.ask()
        (gate,) = vault.economy.limiters()
        turn = await gate.enqueue(
            arrived_at=now(), purpose=Purpose.FIRST, deadline=60.0
        ).item.permit
        ticket = gate.enqueue(arrived_at=now(), purpose=Purpose.FIRST, deadline=60.0)
        gate.release(turn)
        gate.release(await ticket.item.permit)

    play(story)


def test_a_turn_that_comes_too_late_for_who_was_cancelled_is_given_back() -> None:
    """The turn is there, and in the same moment the mount that waited for it goes."""

    async def story(vault: Vault) -> None:
        await vault.ask()
        (gate,) = vault.economy.limiters()
        ticket = gate.enqueue(arrived_at=now(), purpose=Purpose.FIRST, deadline=60.0)
        await asyncio.wait((ticket.item.permit,))
        gate.cancel(ticket)
        start = now()
        assert "fine" == await vault.ask()
        assert (start, True) == (now(), gate.is_idle)

    play(story, limits=ResilienceSettings(qps=1.0, burst=1, max_concurrency=1))


# --- a vault that fails ---------------------------------------------------------------------------


async def fail(vault: Vault) -> None:
    """Let it fail until it is left alone."""
    with pytest.raises(ConnectionFailedError):
        await vault.ask()
    with pytest.raises(VaultUnavailableError):
        await vault.ask()


def test_a_vault_that_fails_is_left_alone_and_the_error_says_since_and_until_when() -> None:
    """What failed last is told with its remedy and its stage; nobody asks it."""

    async def story(vault: Vault) -> None:
        await fail(vault)
        before = len(vault.asked)
        with pytest.raises(VaultUnavailableError) as caught:
            await vault.ask()
        assert before == len(vault.asked)
        assert (
            "contoso has given no answer since 22:13:20 UTC and is left alone until 22:13:30 UTC; "
            "the last call failed to connect"
        ) in caught.value.problem
        assert ("Look.", Stage.CONNECT) == (caught.value.remedy, caught.value.stage)

    play(story, *[broken() for _ in range(20)])


def test_a_vault_that_has_recovered_is_found_by_one_probe() -> None:
    """The others wait for it instead of failing."""

    async def story(vault: Vault) -> None:
        await fail(vault)
        vault.answers, vault.asked = ["fine"], []
        await asyncio.sleep(10)
        start = now()
        assert ["fine"] * 20 == await asyncio.gather(*(vault.ask() for _ in range(20)))
        assert [start] + [start + 1.0] * 19 == vault.asked

    play(story, *[broken() for _ in range(20)], takes=1.0)


def test_a_probe_that_is_cancelled_is_made_by_who_waits() -> None:
    """A pod that goes away does not keep the vault closed."""

    async def story(vault: Vault) -> None:
        await fail(vault)
        vault.answers = ["fine"]
        await asyncio.sleep(10)
        probe = vault.asking()
        await asyncio.sleep(0.1)
        other = vault.asking()
        await asyncio.sleep(0.1)
        probe.cancel()
        assert "fine" == await other

    play(story, *[broken() for _ in range(20)], takes=1.0)


def test_a_probe_whose_turn_comes_when_its_mount_has_gone_is_made_by_who_comes_next() -> None:
    """It waited in the queue, got the turn, and was cancelled in the same moment."""

    async def story(vault: Vault) -> None:
        await fail(vault)
        vault.answers = ["fine"]
        await asyncio.sleep(10)
        (gate,) = vault.economy.limiters()
        ticket = gate.enqueue(arrived_at=now(), purpose=Purpose.FIRST, deadline=now() + 60.0)
        await asyncio.wait((ticket.item.permit,))
        assert ticket.item.permit.result().probe
        gate.cancel(ticket)
        assert "fine" == await vault.ask()

    play(story, *[broken() for _ in range(20)])


def test_a_moment_in_which_all_connections_break_is_tried_again() -> None:
    """Fifty failures at once are not the end."""

    async def story(vault: Vault) -> None:
        assert ["fine"] * 50 == await asyncio.gather(*(vault.ask() for _ in range(50)))

    play(story, *[broken() for _ in range(50)], "fine")


def test_failures_of_one_identity_do_not_close_a_token_endpoint() -> None:
    """IMDS that does not know one identity yet still knows the others."""

    async def story(vault: Vault) -> None:
        for _ in range(4):
            with pytest.raises(VaultError, match=r"\(4 tries\)"):
                await vault.ask()

    play(story, *[RetryableFailure(VaultError("not yet"), host_fault=False) for _ in range(30)])


def test_a_brief_errand_tries_twice_and_not_for_long() -> None:
    """It only spares other requests: what fails of it is one question, not the vault."""

    async def story(vault: Vault) -> None:
        for _ in range(10):
            with pytest.raises(VaultError, match="busy"):
                await vault.send(CallContext.new("contoso").best_effort(now()))
        assert 20 == len(vault.asked)
        (gate,) = vault.economy.limiters()
        assert (False, True) == (gate.is_circuit_open, gate.is_idle)

    play(story, RetryableFailure(VaultError("busy")))


def test_a_brief_errand_waits_for_a_vault_that_throttles() -> None:
    """As everybody does; that is no failure."""

    async def story(vault: Vault) -> None:
        assert "fine" == await vault.send(CallContext.new("contoso").best_effort(now()))
        assert [0.0, 5.0, 10.0, 15.0] == pytest.approx(vault.asked)

    play(story, throttled(5.0), throttled(5.0), throttled(5.0), "fine")


def test_the_tries_of_a_brief_errand_are_short_and_so_are_all_its_requests_together() -> None:
    """The pages of a list that comes too slowly are not worth waiting for."""

    async def story(vault: Vault) -> None:
        given: list[float] = []

        async def attempt(seconds: float) -> str | RetryableFailure:
            given.append(seconds)
            return await vault.attempt(seconds)

        context = CallContext.new("contoso").best_effort(now())
        for _ in range(3):
            assert "fine" == await vault.economy.transport.send(attempt, context)
        with pytest.raises(VaultError, match="take more than 20 s together"):
            await vault.economy.transport.send(attempt, context)
        assert [10.0] * 3 == given

    play(story, takes=7.0)


# --- whatever happens -----------------------------------------------------------------------------

ANSWERS = st.sampled_from(["fine", "broken", "throttled", "asks for a pause", "no", "defect"])


def answer_of(word: str) -> str | RetryableFailure | BaseException:
    match word:
        case "broken":
            return broken()
        case "throttled":
            return throttled()
        case "asks for a pause":
            return throttled(3.0)
        case "no":
            return ObjectNotFoundError("gone")
        case "defect":
            return ValueError("a defect of ours")
        case _:
            return word


@settings(deadline=None)
@given(
    words=st.lists(ANSWERS, min_size=1, max_size=30),
    asks=st.lists(
        st.tuples(
            st.floats(0, 3),
            st.sampled_from(Purpose),
            st.none() | st.floats(0, 20),
        ),
        min_size=1,
        max_size=30,
    ),
    rate=st.sampled_from([0.0, 5.0]),
    at_once=st.integers(1, 4),
)
def test_whatever_happens_everybody_is_told_in_time_and_nothing_leaks(
    words: list[str],
    asks: list[tuple[float, Purpose, float | None]],
    rate: float,
    at_once: int,
) -> None:
    """Failures, pauses and cancelled mounts, mixed: an end for each, and all places free."""
    limits = ResilienceSettings(qps=rate, burst=2, max_concurrency=at_once)

    async def story(vault: Vault) -> None:
        async def one(purpose: Purpose, gives_up: float | None) -> None:
            start = now()
            try:
                await asyncio.wait_for(vault.ask(purpose), gives_up)
            except TimeoutError:
                assert gives_up is not None
            except (VaultError, ValueError):
                pass
            assert now() - start <= limits.call_timeout + 2.0

        tasks: list[asyncio.Task[None]] = []
        for pause, purpose, gives_up in asks:
            await asyncio.sleep(pause)
            tasks.append(asyncio.create_task(one(purpose, gives_up)))
        await asyncio.gather(*tasks)
        assert vault.most <= at_once
        vault.answers = ["fine"]
        await asyncio.sleep(120)
        assert "fine" == await vault.ask()
        (gate,) = vault.economy.limiters()
        assert (0, True) == (gate.queue_depth, gate.is_idle)

    play(story, *map(answer_of, words), limits=limits, takes=0.25)
