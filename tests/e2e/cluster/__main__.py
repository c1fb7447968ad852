"""Leaves a cluster up for work by hand: `make cluster`. It ends with Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from tests.e2e.cluster.cluster import Cluster, running_cluster
from tests.e2e.cluster.network import enter_own_network
from tests.e2e.cluster.programs import built_programs


async def _main() -> None:
    cluster = asyncio.create_task(_stay_up())
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, _end_once, cluster)
    with suppress(asyncio.CancelledError):
        await cluster


async def _stay_up() -> None:
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="keyferry-") as folder:
        async with running_cluster(Path(folder)) as cluster:
            _say(_greeting(cluster, seconds=time.monotonic() - start))
            await asyncio.Event().wait()


def _end_once(cluster: asyncio.Task[None]) -> None:
    """End the cluster at any time, its start included; a second signal does not end the end."""
    if not cluster.cancelling():
        _say("Taking everything down ...\n")
        cluster.cancel()


def _greeting(cluster: Cluster, *, seconds: float) -> str:
    return f"""\
The cluster is up, after {seconds:.0f} seconds. Ctrl-C ends it and leaves nothing behind.
It has a network of its own. In another terminal:

  nsenter --target {os.getpid()} --net bash
  export KUBECONFIG={cluster.kubeconfig}
  export PATH={cluster.programs.kubernetes}:{cluster.programs.helm.parent}:$PATH
  kubectl get nodes

Image for pods: keyferry.test/busybox:1, with imagePullPolicy: Never
Root folder of kubelet: {cluster.kubelet_root}
Logs: {cluster.kubelet_root.parent / "logs"}
"""


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(built_programs())
    enter_own_network()
    asyncio.run(_main())
