"""`keyferry ui`: the status page, through the Kubernetes API or on this machine."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import click

from keyferry.cli.cluster.connection import (
    ClusterOptions,
    context_option,
    kubeconfig_option,
    pod_streams,
)
from keyferry.cli.commands import command, option
from keyferry.cli.console import console

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from keyferry.cli.cluster.connection import Cluster
    from keyferry.cli.cluster.page_target import Controller, PageTarget
    from keyferry.errors import KeyferryError
    from keyferry.kubernetes.api.streams import ForwardedConnection, PodStreams

DEFAULT_PORT = 8090
_ENABLE = "helm upgrade with --set secretSync.statusPage.enabled=true"


@command(
    examples=(
        "keyferry ui --open",
        "keyferry ui -n keyferry --port 9000",
        "# without the SecretSync controller, with the rights of your kubeconfig",
        "keyferry ui --local",
        "keyferry ui --local -n shop",
    )
)
@context_option
@kubeconfig_option
@option(
    "-n",
    "--namespace",
    metavar="NAME",
    section="Cluster",
    help="Namespace of the controller; with --local, the only one to show. Default: all.",
)
@option("--local", is_flag=True, help="Read the cluster with your own rights.")
@option(
    "--port",
    type=click.IntRange(0, 65535),
    default=None,
    metavar="N",
    help=f"Port of this machine; default: {DEFAULT_PORT}, or a free one.",
)
@option("--open", "opens", is_flag=True, help="Open the page in the browser.")
def ui(
    kubeconfig: str | None,
    context: str | None,
    namespace: str | None,
    local: bool,
    port: int | None,
    opens: bool,
) -> None:
    """Show the status page, until Ctrl-C.

    The page shows which workloads are healthy, stale, failing or expiring, and the state of the
    vaults: names and versions, no values. The SecretSync controller serves it; the command forwards
    a port, for which you need the permissions to list its pods, and to get and create
    pods/portforward. With --local, or if the controller has no page, the command serves the page
    itself, and reads the cluster with your own rights.
    """
    import asyncio
    from pathlib import Path

    console().configure_logs()
    options = ClusterOptions(Path(kubeconfig) if kubeconfig else None, context, namespace)
    asyncio.run(_show(options, local=local, port=port, opens=opens))


async def _show(options: ClusterOptions, *, local: bool, port: int | None, opens: bool) -> None:
    from keyferry.cli.cluster.connection import open_cluster
    from keyferry.cli.local.signals import StopSignal

    stop = StopSignal()
    async with open_cluster(options) as cluster, AsyncExitStack() as stack:
        page = _Page(cluster, options, stack, port)
        url = await stop.interrupts(page.start(local=local))
        click.echo(url)
        console().note("Press Ctrl-C to end.")
        if opens:
            _open_browser(url)
        while not await stop.within(_FOREVER):
            pass


_FOREVER = 3600.0


class _Page:
    """Serves the page or forwards a port to it, until the stack is closed.

    Args:
        cluster: the connection.
        options: of the command.
        stack: holds what is open.
        port: of this machine; None for the default one, or a free one.
    """

    def __init__(
        self, cluster: Cluster, options: ClusterOptions, stack: AsyncExitStack, port: int | None
    ) -> None:
        self._cluster = cluster
        self._namespace = options.namespace
        self._stack = stack
        self._port = port

    async def start(self, *, local: bool) -> str:
        """Return the URL of the page.

        Raises:
            StoreError: the cluster cannot be read.
            PlatformError: the port is in use.
        """
        controller = None if local else await self._controller()
        if controller is None or not controller.targets:
            return await self._serve(self._namespace if local else None)
        return await self._forward(controller.targets[0])

    async def _controller(self) -> Controller | None:
        """Return the controller; None with a warning if it has no page."""
        from keyferry.cli.cluster.page_target import find_controller
        from keyferry.errors import StorePermissionError

        try:
            controller = await find_controller(self._cluster.api, self._namespace or "*")
        except StorePermissionError:
            console().warn(
                "you may not list pods, so the SecretSync controller cannot be found: name its"
                " namespace with -n. Reading the cluster with your own rights"
            )
            return None
        if controller.targets:
            return controller
        console().warn(f"{_missing_page(controller)}. Reading the cluster with your own rights")
        return controller

    async def _forward(self, target: PageTarget) -> str:
        from keyferry.cli.cluster.port_forward import HOST, forwarding

        streams = await self._stack.enter_async_context(pod_streams(self._cluster))
        forwarder = _Forwarder(self._cluster, streams, target, self._namespace or "*")
        await forwarder.check()
        port = await self._stack.enter_async_context(
            forwarding(self._free_port(), forwarder.connect, forwarder.on_error)
        )
        console().note(f"Forwarding to pod {target}.")
        return f"http://{HOST}:{port}/"

    async def _serve(self, namespace: str | None) -> str:
        from keyferry.aio.clock import SystemClock
        from keyferry.cli.cluster.port_forward import HOST
        from keyferry.cli.cluster.user_source import UserSource
        from keyferry.status_page.server import serving_page

        port = await self._stack.enter_async_context(
            serving_page(
                (HOST, self._free_port()),
                UserSource(self._cluster, all_namespaces=namespace is None),
                server=f"namespace {namespace}" if namespace else "all namespaces",
                clock=SystemClock(),
                flag="--port",
            )
        )
        return f"http://{HOST}:{port}/"

    def _free_port(self) -> int:
        """Return the port to listen on; 0 for any."""
        import socket

        from keyferry.cli.cluster.port_forward import HOST

        if self._port is not None:
            return self._port
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, DEFAULT_PORT))
            except OSError:
                return 0
        return DEFAULT_PORT


class _Forwarder:
    """Connects to a pod with the page, and to another one when it is replaced.

    Args:
        cluster: the connection.
        streams: to pods.
        target: the pod.
        namespace: of the controller; "*" if unknown.
    """

    def __init__(
        self, cluster: Cluster, streams: PodStreams, target: PageTarget, namespace: str
    ) -> None:
        self._cluster = cluster
        self._streams = streams
        self._target = target
        self._namespace = namespace

    async def check(self) -> None:
        """Connect once, so that a missing permission is an error of the command.

        Raises:
            StoreError: the pod cannot be reached.
        """
        async with self.connect():
            pass

    def connect(self) -> AbstractAsyncContextManager[ForwardedConnection]:
        """Connect to the pod."""
        target = self._target
        return self._streams.connect(target.namespace, target.pod, target.port)

    async def on_error(self, error: KeyferryError) -> None:
        """Report an error, and look for another pod."""
        from keyferry.cli.cluster.page_target import find_controller
        from keyferry.errors import StoreError

        console().error(error.problem, error.remedy)
        try:
            controller = await find_controller(self._cluster.api, self._namespace)
        except StoreError:
            return
        others = [each for each in controller.targets if each != self._target]
        if others and self._target not in controller.targets:
            self._target = others[0]
            console().note(f"Forwarding to pod {self._target}.")


def _missing_page(controller: Controller) -> str:
    """Return why there is no page, and how to enable it."""
    if not controller.pods:
        return "there is no SecretSync controller, which serves the page in the cluster"
    if controller.has_page:
        return "no pod of the SecretSync controller with the status page is ready"
    return (
        f"the status page of the SecretSync controller ({controller.pods[0]}) is disabled;"
        f" enable it: {_ENABLE}"
    )


def _open_browser(url: str) -> None:
    import webbrowser

    if not webbrowser.open_new_tab(url):
        console().warn("no browser could be opened: open the address yourself")
