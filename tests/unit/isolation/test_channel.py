"""Channel: calls between two processes, here two ends in one."""

from __future__ import annotations

import asyncio
import socket

from keyferry.isolation.channel import Channel
from keyferry.isolation.messages import Method

ECHO: Method[str, str] = Method("echo", str, str)


async def test_a_watcher_waits_for_the_next_call() -> None:
    """So that it needs no timer while no call is in flight."""
    may_answer = asyncio.Event()

    async def echo(text: str) -> str:
        await may_answer.wait()
        return text

    ends = socket.socketpair()
    client, server = Channel({}), Channel({ECHO.name: (ECHO, echo)})
    for channel, end in zip((client, server), ends, strict=True):
        end.setblocking(False)
        await channel.open(end)
    for _ in range(2):
        may_answer.clear()
        watcher = asyncio.create_task(client.wait_for_call())
        await asyncio.sleep(0)
        assert not watcher.done()
        call = asyncio.create_task(client.call(ECHO, "hello"))
        await watcher
        assert 1 == client.calls_in_flight
        may_answer.set()
        assert "hello" == await call
    await client.close()
    await server.close()
