"""Entry point of the node daemon: serves CSI at once, loads the rest behind it, and shuts down.

Most of the start is spent on imports. Kubelet registers the driver as soon as the identity methods
respond, which need none of them; a publish waits until the node is loaded (ADR 0023).
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from importlib import import_module
from typing import TYPE_CHECKING

from keyferry import __version__
from keyferry.driver.csi import CsiServices
from keyferry.driver.starting import StartingPublisher
from keyferry.net.grpc_server import serving_grpc, stop_signal
from keyferry.net.sockets import parse_endpoint
from keyferry.process import pausing_gc
from keyferry.telemetry.logs import get_logger

if TYPE_CHECKING:
    from types import ModuleType

    from keyferry.driver.settings import DriverSettings
    from keyferry.isolation.provider_worker import WorkerSettings
    from keyferry.isolation.spawner import Spawner

_log = get_logger("daemon")


async def run_driver(
    settings: DriverSettings,
    *,
    worker: WorkerSettings | None = None,
    spawner: Spawner | None = None,
) -> None:
    """Serve until the first SIGTERM or SIGINT, then finish calls in flight.

    Args:
        settings: of the driver.
        worker: settings of the built-in providers; None to build them from `settings`.
        spawner: starts the child processes; None to run everything in this process.

    Raises:
        PlatformError: this machine does not support a setting.
    """
    stop = stop_signal()
    endpoint = parse_endpoint(settings.endpoint)
    publisher = StartingPublisher()
    services = CsiServices(
        publisher,
        driver_name=settings.driver_name,
        version=__version__,
        node_id=settings.node_id,
    )
    async with AsyncExitStack() as first, AsyncExitStack() as stack:
        await first.enter_async_context(serving_grpc(endpoint, services.add_to))
        with publisher.starting():
            uses_cluster = settings.manifests is None
            node = await asyncio.to_thread(_import_node, uses_cluster=uses_cluster)
            running = await stack.enter_async_context(
                node.running_node(settings, worker=worker, spawner=spawner)
            )
        # Calls in flight are finished before the engine ends.
        stack.push_async_exit(first.pop_all())
        publisher.started(running.publisher)
        await stack.enter_async_context(running.registering())
        await stop.wait()
        _log.info("stopping when calls in flight are finished; a second signal stops at once")


def _import_node(*, uses_cluster: bool) -> ModuleType:
    """Import everything that a publish needs; on a thread, so that calls are answered meanwhile."""
    with pausing_gc():
        from keyferry.driver import node

        if uses_cluster:
            import_module("keyferry.kubernetes.api.store")
    return node
