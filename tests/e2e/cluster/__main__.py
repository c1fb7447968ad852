"""Run a cluster with Keyferry for manual work (`make cluster`) until Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from tests.e2e.cluster.images import BUSYBOX
from tests.e2e.cluster.installation import Installation, running_installation
from tests.e2e.cluster.keyferry_image import fetch_keyferry_image
from tests.e2e.cluster.manifests import MACHINE, VAULT
from tests.e2e.cluster.network import enter_own_network
from tests.e2e.cluster.programs import built_programs
from tests.fakes.devvault import DEFAULT_TENANT


async def _main() -> None:
    cluster = asyncio.create_task(_stay_up())
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, _end_once, cluster)
    with suppress(asyncio.CancelledError):
        await cluster


async def _stay_up() -> None:
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="keyferry-") as folder:
        async with running_installation(Path(folder)) as installed:
            _say(_greeting(installed, Path(folder), seconds=time.monotonic() - start))
            await asyncio.Event().wait()


def _end_once(cluster: asyncio.Task[None]) -> None:
    """Stop the cluster, even while it starts; a second signal does not interrupt the shutdown."""
    if not cluster.cancelling():
        _say("Stopping the cluster ...\n")
        cluster.cancel()


def _greeting(installed: Installation, folder: Path, *, seconds: float) -> str:
    cluster = installed.cluster
    keyferry = Path(sys.executable).with_name("keyferry")
    return f"""\
The cluster with Keyferry is ready after {seconds:.0f} seconds. Press Ctrl-C to stop it.
It runs in its own network namespace. In another terminal:

  nsenter --target {os.getpid()} --net bash
  export KUBECONFIG={cluster.kubeconfig}
  export PATH={cluster.programs.kubernetes}:{cluster.programs.helm.parent}:$PATH
  kubectl get pods -A

Image for pods: {BUSYBOX}, with imagePullPolicy: Never
Vault {VAULT}, read as managed identity {MACHINE}, tenant {DEFAULT_TENANT}:
  {keyferry} devvault set {VAULT} db-password --data {folder / "devvault"}
Values of the chart: {folder / "values.yaml"}
Root folder of kubelet: {cluster.kubelet_root}
Logs: {folder / "logs"}
"""


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(built_programs())
    fetch_keyferry_image()
    enter_own_network()
    asyncio.run(_main())
