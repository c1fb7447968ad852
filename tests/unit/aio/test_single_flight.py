"""keyferry.resilience: who waits for the same answer shares one call, and nothing else."""

from __future__ import annotations

import asyncio
from traceback import walk_tb

import pytest

from keyferry.aio.single_flight import SharedCall, copy_without_traceback
from keyferry.errors import KeyferryError, ProviderReportedError, Stage, VaultError
from keyferry.resilience.cache_key import CacheKey, IdentityKey
from keyferry.resilience.call_context import CallContext
from tests.fakes.resilience import uncached_fetcher

KEY = CacheKey("contoso", IdentityKey("Mode", ("a",)), ("read", "db"))


class Call:
    """A call to a vault that ends when the test says so."""

    def __init__(self) -> None:
        self.begun = 0
        self.given_up = 0
        self.answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def __call__(self, context: CallContext) -> str:
        self.begun += 1
        try:
            return await asyncio.shield(self.answer)
        except asyncio.CancelledError:
            self.given_up += 1
            raise


async def settle() -> None:
    """Let everybody come as far as they can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_concurrent_fetches_share_one_call() -> None:
    """All get its answer; the next one asks anew."""
    economy, call = uncached_fetcher(), Call()
    waiting = [asyncio.create_task(economy.fetch(KEY, call)) for _ in range(5)]
    await settle()
    call.answer.set_result("value")
    assert ["value"] * 5 == [one.value for one in await asyncio.gather(*waiting)]
    assert 1 == call.begun
    assert "value" == (await economy.fetch(KEY, call)).value
    assert 2 == call.begun


async def test_different_keys_share_nothing() -> None:
    """Another vault, another identity, another object: another call."""
    economy, call = uncached_fetcher(), Call()
    call.answer.set_result("value")
    others = [
        CacheKey("other", KEY.identity, KEY.resource),
        CacheKey(KEY.vault, IdentityKey("Mode", ("b",)), KEY.resource),
        CacheKey(KEY.vault, IdentityKey("Other", ("a",)), KEY.resource),
        CacheKey(KEY.vault, KEY.identity, ("read", "other")),
    ]
    await asyncio.gather(*(economy.fetch(key, call) for key in (KEY, *others)))
    assert 5 == call.begun


async def test_who_is_cancelled_leaves_the_call_to_the_others() -> None:
    """Even the one who began it."""
    economy, call = uncached_fetcher(), Call()
    first, second = (asyncio.create_task(economy.fetch(KEY, call)) for _ in range(2))
    await settle()
    first.cancel()
    await settle()
    call.answer.set_result("value")
    assert "value" == (await second).value
    assert first.cancelled()
    assert (1, 0) == (call.begun, call.given_up)


async def test_the_last_one_who_is_cancelled_ends_the_call() -> None:
    """Whoever comes then begins a new one, even before the old one has gone."""
    economy, call = uncached_fetcher(), Call()
    waiting = [asyncio.create_task(economy.fetch(KEY, call)) for _ in range(2)]
    await settle()
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
    late = asyncio.create_task(economy.fetch(KEY, call))
    await settle()
    assert (2, 1) == (call.begun, call.given_up)
    call.answer.set_result("value")
    assert "value" == (await late).value


async def test_a_failure_is_told_to_each_as_a_copy() -> None:
    """No two share a traceback, and what one writes into its copy stays there."""
    economy, call = uncached_fetcher(), Call()
    waiting = [asyncio.create_task(economy.fetch(KEY, call)) for _ in range(3)]
    await settle()
    cause = OSError("why")
    error = VaultError("broken", "Mend it.", stage=Stage.TLS)
    error.__cause__ = cause
    call.answer.set_exception(error)
    told = await asyncio.gather(*waiting, return_exceptions=True)
    copies = [copy for copy in told if isinstance(copy, VaultError)]
    assert 3 == len({id(copy) for copy in (*copies, error)} - {id(error)})
    assert [str(error)] * 3 == [str(copy) for copy in copies]
    assert [(Stage.TLS, cause)] * 3 == [(copy.stage, copy.__cause__) for copy in copies]
    frames = [id(frame) for copy in copies for frame, _ in walk_tb(copy.__traceback__)]
    assert len(frames) == len(set(frames))
    copies[0].problem += " here"
    assert "broken" == copies[1].problem


@pytest.mark.parametrize(
    "error",
    [
        ProviderReportedError("p", "r", code=7, reason="why"),
        ValueError("x"),
        OSError(2, "No such file"),
        KeyferryError("p", stage=Stage.DNS),
    ],
)
def test_any_error_can_be_copied(error: Exception) -> None:
    """With all that it says, however it is made."""
    copy = copy_without_traceback(error)
    assert (type(error), str(error), error.args) == (type(copy), str(copy), copy.args)
    assert vars(error) == vars(copy)
    assert copy.__traceback__ is None


async def test_a_call_that_nobody_waits_for_any_more_may_fail_in_silence() -> None:
    """A cancelled mount has no use for the error."""
    economy, call = uncached_fetcher(), Call()
    task = asyncio.create_task(economy.fetch(KEY, call))
    await settle()
    task.cancel()
    call.answer.set_exception(VaultError("broken"))
    await asyncio.wait([task])
    assert task.cancelled()


async def test_who_comes_when_a_call_is_over_need_not_wait() -> None:
    """Its result is there, although whoever made it has not been told yet."""

    async def work() -> str:
        return "value"

    landed: list[str] = []
    flight = SharedCall(work(), lambda: landed.append("landed"))
    await asyncio.sleep(0)
    assert not landed
    assert "value" == await flight.wait()
    await settle()
    assert ["landed"] == landed
    assert "value" == await flight.wait()
