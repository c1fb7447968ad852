"""A mount that takes long is one log line, with stage and host."""

from __future__ import annotations

import asyncio

import pytest

from keyferry.errors import Stage
from keyferry.providers import host
from keyferry.providers.api import MountCall, MountResult
from keyferry.providers.host import ProviderHost
from keyferry.providers.known_fields.attributes import POD_NAME, POD_NAMESPACE
from keyferry.resilience.call_context import Purpose
from keyferry.resilience.waiting import waiting_for
from tests.fakes.log import captured_log
from tests.fakes.provider import ScriptedProvider

ATTRIBUTES = {POD_NAMESPACE: "shop", POD_NAME: "web-0"}


class SlowProvider(ScriptedProvider):
    """Waits for a token before each response."""

    async def mount(self, call: MountCall) -> MountResult:
        with waiting_for(Stage.IDENTITY, "login.test") as wait:
            wait.problem = "status 503"
            await asyncio.sleep(0.03)
        return await super().mount(call)


@pytest.mark.parametrize(
    ("purpose", "seconds", "lines"),
    [(Purpose.FIRST, 0.0, 1), (Purpose.FIRST, 60.0, 0), (Purpose.REFRESH, 0.0, 0)],
)
async def test_a_pod_that_waits_is_logged_once(
    monkeypatch: pytest.MonkeyPatch, purpose: Purpose, seconds: float, lines: int
) -> None:
    """A refresh delays no pod; its line would be periodic during an outage."""
    monkeypatch.setattr(host, "SLOW_SECONDS", seconds)
    with captured_log() as log:
        await ProviderHost({"azure": SlowProvider()}).mount(
            "azure", MountCall(ATTRIBUTES, purpose=purpose)
        )
    logged = log.getvalue().splitlines()
    assert lines == len(logged)
    for line in logged:
        assert '"a mount takes long" pod="shop/web-0" provider="azure"' in line
        assert 'stage="identity" waitingFor="a token from login.test (status 503)"' in line
