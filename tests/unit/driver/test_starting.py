"""CSI is served before the engine is loaded; calls that need it wait."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from keyferry.driver.publish.publisher import Publisher
from keyferry.driver.request import PublishRequest, UnpublishRequest
from keyferry.driver.starting import StartingPublisher
from keyferry.errors import ProviderUnreachableError
from tests.fakes.virtual_time import virtual_time

PUBLISH, UNPUBLISH = cast("PublishRequest", object()), cast("UnpublishRequest", object())


class _Recorder:
    """Records the calls that arrive."""

    def __init__(self) -> None:
        self.calls: list[object] = []

    async def publish(self, request: object) -> None:
        self.calls.append(request)

    async def unpublish(self, request: object) -> None:
        self.calls.append(request)


@virtual_time
async def test_calls_wait_until_the_engine_runs() -> None:
    starting, recorder = StartingPublisher(), _Recorder()
    with starting.starting():
        calls = [
            asyncio.create_task(starting.publish(PUBLISH)),
            asyncio.create_task(starting.unpublish(UNPUBLISH)),
        ]
        await asyncio.sleep(1)
        assert not any(call.done() for call in calls)
    starting.started(cast("Publisher", recorder))
    await asyncio.gather(*calls)
    await starting.publish(PUBLISH)
    assert [PUBLISH, UNPUBLISH, PUBLISH] == recorder.calls


@virtual_time
async def test_a_cancelled_call_does_not_disturb_others() -> None:
    starting, recorder = StartingPublisher(), _Recorder()
    cancelled = asyncio.create_task(starting.publish(PUBLISH))
    other = asyncio.create_task(starting.publish(PUBLISH))
    await asyncio.sleep(1)
    cancelled.cancel()
    starting.started(cast("Publisher", recorder))
    await other
    assert [PUBLISH] == recorder.calls


@virtual_time
async def test_calls_fail_if_the_engine_cannot_start() -> None:
    """They would otherwise keep the process from ending."""
    starting = StartingPublisher()
    call = asyncio.create_task(starting.publish(PUBLISH))
    await asyncio.sleep(1)
    with pytest.raises(ValueError, match="no"), starting.starting():
        raise ValueError("no")
    for waiting in (call, starting.unpublish(UNPUBLISH)):
        with pytest.raises(ProviderUnreachableError, match="cannot start"):
            await waiting
