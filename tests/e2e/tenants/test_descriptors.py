"""A driver without free descriptors, and providers that answer garbage."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc

from tests.e2e.tenants.arena import Arena
from tests.e2e.tenants.processes import descriptors_of

DESCRIPTORS = 110


async def test_lack_of_descriptors_does_not_keep_volumes(arena: Arena) -> None:
    """A hundred Pods at once: each error has a cause, and everything can be unpublished."""
    command = ["keyferry", "driver", *arena.driver_flags()]
    keyferry = str(Path(sys.executable).with_name("keyferry"))
    limited = [f"--nofile={DESCRIPTORS}:{DESCRIPTORS}", keyferry, *command[1:]]
    child = arena.children.start("driver", "prlimit", *limited)
    arena.driver = await arena.reach(child)
    volumes = [arena.victim_volume()[0] for _ in range(150)]
    errors = set(await asyncio.gather(*(arena.publish(volume) for volume in volumes)))
    arena.show(f"{descriptors_of(child.pid)} descriptors; errors: {sorted(errors)}")
    assert not [text for text in errors if "internal error" in text]
    await asyncio.gather(*(arena.unpublish(volume) for volume in volumes))
    # Kubelet repeats an unpublish that failed.
    results = await asyncio.gather(*(arena.unpublish(volume) for volume in volumes))
    assert {""} == set(results)
    assert [] == [left for volume in volumes for left in arena.left_overs(volume)]
    assert "" == await arena.publish(arena.victim_volume()[0])
    await arena.driver.stop()


@asynccontextmanager
async def garbage_provider(socket: Path) -> AsyncIterator[None]:
    """Run a provider whose answers are not protobuf."""

    class Handler(grpc.GenericRpcHandler):
        def service(self, _: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
            async def answer(_: bytes, __: object) -> bytes:
                return b"\xff\xff\xff\xff"

            return grpc.unary_unary_rpc_method_handler(answer)

    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Handler(),))
    server.add_insecure_port(f"unix:{socket}")
    await server.start()
    try:
        yield
    finally:
        await server.stop(None)


async def test_garbage_of_a_provider_is_reported_as_such(arena: Arena) -> None:
    """It is not an internal error."""
    folder = arena.folder / "providers"
    folder.mkdir()
    arena.attacker.put_class("garbage", provider="garbage")
    async with garbage_provider(folder / "garbage.sock"), arena.attack():
        error = await arena.publish(arena.attacker.pod("garbage"))
    assert "garbage" in error
    assert "internal error" not in error
