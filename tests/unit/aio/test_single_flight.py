"""keyferry.aio.single_flight, mostly through the fetcher: one call for concurrent callers."""

from __future__ import annotations

import asyncio
import gc
import weakref
from contextlib import suppress
from traceback import walk_tb

import pytest

from keyferry.aio.single_flight import SharedCall, copy_without_traceback
from keyferry.errors import KeyferryError, ProviderReportedError, Stage, VaultError
from keyferry.resilience.cache_key import CacheKey, IdentityKey
from keyferry.resilience.call_context import CallContext
from keyferry.resilience.fetcher import Fetcher
from tests.fakes.resilience import uncached_fetcher

KEY = CacheKey("contoso", IdentityKey("Mode", ("a",)), ("read", "db"))


class Call:
    """A call that ends when the test sets its response. Counts how often it started.

    Attributes:
        started: the number of calls.
        canceled: the number of canceled calls.
        response: what the calls return.
    """

    def __init__(self) -> None:
        self.started = 0
        self.canceled = 0
        self.response: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def __call__(self, context: CallContext) -> str:
        self.started += 1
        try:
            return await asyncio.shield(self.response)
        except asyncio.CancelledError:
            self.canceled += 1
            raise


async def get(fetcher: Fetcher, call: Call, key: CacheKey = KEY) -> str:
    """Return the value of a fetch."""
    return (await fetcher.fetch(key, call)).value


async def run_ready_tasks() -> None:
    """Let each task run until it waits."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_concurrent_fetches_share_one_call() -> None:
    """A later fetch makes a new call."""
    fetcher, call = uncached_fetcher(), Call()
    fetches = [asyncio.create_task(get(fetcher, call)) for _ in range(5)]
    await run_ready_tasks()
    call.response.set_result("value")
    assert ["value"] * 5 == await asyncio.gather(*fetches)
    assert 1 == call.started
    assert "value" == await get(fetcher, call)
    assert 2 == call.started


async def test_fetches_of_different_keys_share_no_call() -> None:
    fetcher, call = uncached_fetcher(), Call()
    call.response.set_result("value")
    others = [
        CacheKey("other", KEY.identity, KEY.resource),
        CacheKey(KEY.vault, IdentityKey("Mode", ("b",)), KEY.resource),
        CacheKey(KEY.vault, IdentityKey("Other", ("a",)), KEY.resource),
        CacheKey(KEY.vault, KEY.identity, ("read", "other")),
    ]
    await asyncio.gather(*(get(fetcher, call, key) for key in (KEY, *others)))
    assert 5 == call.started


async def test_canceled_caller_leaves_the_call_to_the_others() -> None:
    """Even the caller that started it."""
    fetcher, call = uncached_fetcher(), Call()
    first, second = (asyncio.create_task(get(fetcher, call)) for _ in range(2))
    await run_ready_tasks()
    first.cancel()
    await run_ready_tasks()
    call.response.set_result("value")
    assert "value" == await second
    assert first.cancelled()
    assert (1, 0) == (call.started, call.canceled)


async def test_last_canceled_caller_cancels_the_call() -> None:
    """A later caller makes a new call, even before the canceled one has ended."""
    fetcher, call = uncached_fetcher(), Call()
    fetches = [asyncio.create_task(get(fetcher, call)) for _ in range(2)]
    await run_ready_tasks()
    for fetch in fetches:
        fetch.cancel()
    await asyncio.wait(fetches)
    later = asyncio.create_task(get(fetcher, call))
    await run_ready_tasks()
    assert (2, 1) == (call.started, call.canceled)
    call.response.set_result("value")
    assert "value" == await later


async def test_each_caller_gets_its_own_copy_of_an_error() -> None:
    """Copies share no traceback, and a change of one copy does not affect the others."""
    fetcher, call = uncached_fetcher(), Call()
    fetches = [asyncio.create_task(get(fetcher, call)) for _ in range(3)]
    await run_ready_tasks()
    cause = OSError("cause")
    error = VaultError("broken", "Repair it.", stage=Stage.TLS)
    error.__cause__ = cause
    call.response.set_exception(error)
    results = await asyncio.gather(*fetches, return_exceptions=True)
    copies = [result for result in results if isinstance(result, VaultError)]
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
    copy = copy_without_traceback(error)
    assert (type(error), str(error), error.args) == (type(copy), str(copy), copy.args)
    assert vars(error) == vars(copy)
    assert copy.__traceback__ is None


async def test_error_of_a_call_without_callers_is_not_logged() -> None:
    fetcher, call = uncached_fetcher(), Call()
    fetch = asyncio.create_task(get(fetcher, call))
    await run_ready_tasks()
    fetch.cancel()
    call.response.set_exception(VaultError("broken"))
    await asyncio.wait([fetch])
    assert fetch.cancelled()


async def test_caller_of_a_call_that_has_just_ended_does_not_wait() -> None:
    """The result is available before `on_done` is called."""

    async def work() -> str:
        return "value"

    done: list[str] = []
    call = SharedCall(work(), lambda: done.append("done"))
    await asyncio.sleep(0)
    assert not done
    assert "value" == await call.wait()
    await run_ready_tasks()
    assert ["done"] == done
    assert "value" == await call.wait()


class Response:
    """A large result."""


@pytest.mark.parametrize("outcome", ["result", "error", "canceled"])
async def test_result_is_freed_without_the_garbage_collector(outcome: str) -> None:
    """The result or the frames of a call may hold megabytes."""
    held: list[weakref.ref[Response]] = []

    async def load() -> Response:
        response = Response()
        held.append(weakref.ref(response))
        await asyncio.sleep(3600 if outcome == "canceled" else 0)
        if outcome == "error":
            raise VaultError("it is ill")
        return response

    finished: list[int] = []

    async def wait() -> None:
        call = SharedCall(load(), lambda: finished.append(id(call)))
        async with asyncio.timeout(0.01 if outcome == "canceled" else 100):
            await call.wait()

    gc.disable()
    try:
        with suppress(VaultError, TimeoutError):
            await wait()
        for _ in range(5):
            await asyncio.sleep(0)
        assert [None] == [reference() for reference in held]
        assert 1 == len(finished)
    finally:
        gc.enable()
