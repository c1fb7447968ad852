"""`python -m bench.syncs`: SecretSyncs in bulk, with a real API server and etcd.

Measures the first sync of all, a new one meanwhile, an interval in which nothing changes, and an
interval in which every object has a new version. The vault is the emulator, in another process.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.processes import process_usage
from keyferry.kubernetes.api.client import KubeApi, open_api
from keyferry.kubernetes.api.config import load_config
from keyferry.kubernetes.api.resources import SecretProviderClassResource
from keyferry.kubernetes.api.syncs.resources import sync_resource
from keyferry.kubernetes.object_codec import Manifest
from keyferry.kubernetes.syncs.groups import UPSTREAM_GROUP
from keyferry_devvault.http_types import RequestKind
from tests.e2e.cluster.api_server import ApiServer, free_ports, running_api_server
from tests.e2e.cluster.manifests import azure_class
from tests.fakes.devvault import DevVault, running_devvault

CRDS = Path(__file__).parents[1] / "deploy" / "crds"
VAULT = "contoso"
OBJECTS = 4
"""Objects of one identity, each in a quarter of its SecretSyncs."""
NAMESPACES = 10
CREATIONS = 16
"""SecretSyncs that are created at the same time."""
POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Figures:
    """What one run measured. Seconds, MiB and counts."""

    syncs: int
    identities: int
    first_sync: float
    first_sync_cpu: float
    new_while_syncing: float
    new_when_idle: float
    memory: float
    vault_calls_first: int
    vault_calls_quiet: int
    quiet_cpu: float
    quiet_writes: int
    rotation: float
    vault_calls_rotation: int


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(prog="python -m bench.syncs", description=__doc__)
    parser.add_argument("--syncs", type=int, default=10_000)
    parser.add_argument("--identities", type=int, default=50)
    parser.add_argument("--interval", type=int, default=120, help="seconds between two refreshes")
    options = parser.parse_args()
    with TemporaryDirectory(prefix="kf-", dir="/dev/shm") as folder:
        measuring = _measure(
            Path(folder), options.syncs, options.identities, interval=options.interval
        )
        figures = asyncio.run(measuring)
    for name, value in vars_of(figures):
        print(f"{name:24}{value:>12.1f}" if isinstance(value, float) else f"{name:24}{value:>12}")


def vars_of(figures: Figures) -> Iterator[tuple[str, float | int]]:
    for name in Figures.__dataclass_fields__:
        yield name, getattr(figures, name)


async def _measure(folder: Path, syncs: int, identities: int, *, interval: int) -> Figures:
    async with (
        running_api_server(folder / "api") as server,
        running_devvault(folder) as vault,
        open_api(load_config(server.kubeconfig)) as api,
    ):
        await _prepare(server, vault, api, syncs, identities)
        print(f"{syncs} SecretSyncs of {identities} identities exist", file=sys.stderr)
        with _controller(server, folder / "devvault", interval) as controller:
            return await _measure_controller(
                controller, server, vault, api, syncs, identities, interval=interval
            )


async def _prepare(
    server: ApiServer, vault: DevVault, api: KubeApi, syncs: int, identities: int
) -> None:
    await server.kubectl("apply", f"--filename={CRDS}")
    await server.kubectl(
        "wait", "--for=condition=Established", "--timeout=60s", f"--filename={CRDS}"
    )
    for index in range(NAMESPACES):
        await server.kubectl("create", "namespace", _namespace(index))
    for identity in range(identities):
        client = f"11111111-0000-4000-8000-{identity:012d}"
        vault.add_managed_identity(client)
        for number in range(OBJECTS):
            vault.set_secret(VAULT, f"object-{identity}-{number}", f"value-{identity}-{number}")
        vault.grant(VAULT, client, "get", "list")
        manifest = azure_class(
            f"class-{identity}",
            {f"object-{identity}-{number}": f"file-{number}" for number in range(OBJECTS)},
            useVMManagedIdentity="true",
            userAssignedIdentityID=client,
        )
        manifest["metadata"]["namespace"] = _namespace(identity)
        await api.create(SecretProviderClassResource, _namespace(identity), manifest)
    await _create(api, [_sync(index, identities) for index in range(syncs)])


async def _create(api: KubeApi, manifests: Iterable[Manifest]) -> None:
    room = asyncio.Semaphore(CREATIONS)

    async def create(manifest: Manifest) -> None:
        async with room:
            namespace = str(manifest["metadata"]["namespace"])  # type: ignore[index, call-overload]
            await api.create(sync_resource(UPSTREAM_GROUP), namespace, manifest)

    await asyncio.gather(*map(create, manifests))


def _namespace(identity: int) -> str:
    return f"shop-{identity % NAMESPACES}"


def _sync(index: int, identities: int, *, name: str = "") -> Manifest:
    identity = index % identities
    return {
        "apiVersion": str(UPSTREAM_GROUP),
        "kind": "SecretSync",
        "metadata": {"name": name or f"sync-{index}", "namespace": _namespace(identity)},
        "spec": {
            "secretProviderClassName": f"class-{identity}",
            "serviceAccountName": "default",
            "secretObject": {
                "type": "Opaque",
                "data": [
                    {"sourcePath": f"file-{index // identities % OBJECTS}", "targetKey": "password"}
                ],
            },
        },
    }


@dataclass(frozen=True)
class _Controller:
    pid: int
    metrics: str

    def series(self) -> dict[str, float]:
        with urllib.request.urlopen(f"http://{self.metrics}/metrics") as answer:
            text = answer.read().decode()
        found = re.findall(r"^(keyferry_\w+(?:{[^}]*})?) ([0-9.e+-]+)$", text, re.MULTILINE)
        return {name: float(value) for name, value in found}

    def ready(self) -> int:
        return int(
            sum(
                value
                for name, value in self.series().items()
                if name.startswith("keyferry_secretsync_ready") and 'ready="true"' in name
            )
        )


@contextmanager
def _controller(server: ApiServer, dev_vault: Path, interval: int) -> Iterator[_Controller]:
    metrics = f"127.0.0.1:{free_ports(1)[0]}"
    command = [
        *(sys.executable, "-m", "keyferry", "sync-controller"),
        f"--kubeconfig={server.kubeconfig}",
        f"--dev-vault={dev_vault}",
        f"--metrics-bind-address={metrics}",
        f"--health-probe-bind-address=127.0.0.1:{free_ports(1)[0]}",
        f"--rotation-poll-interval={interval}s",
    ]
    log = Path(dev_vault).parent / "controller.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=os.environ)
    try:
        yield _Controller(process.pid, metrics)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


async def _until(found: Callable[[], bool]) -> None:
    while True:
        await asyncio.sleep(POLL_SECONDS)
        with suppress(OSError):
            if await asyncio.to_thread(found):
                return


async def _until_ready(controller: _Controller, count: int) -> None:
    await _until(lambda: controller.ready() >= count)


async def _until_new_is_ready(server: ApiServer, api: KubeApi, manifest: Manifest) -> float:
    start = time.monotonic()
    await _create(api, [manifest])
    metadata = manifest["metadata"]
    assert isinstance(metadata, dict)
    await server.kubectl(
        "wait",
        "--for=condition=Ready",
        f"secretsync/{metadata['name']}",
        f"--namespace={metadata['namespace']}",
        "--timeout=600s",
    )
    return time.monotonic() - start


async def _measure_controller(
    controller: _Controller,
    server: ApiServer,
    vault: DevVault,
    api: KubeApi,
    syncs: int,
    identities: int,
    *,
    interval: int,
) -> Figures:
    start = time.monotonic()
    everything = asyncio.create_task(_until_ready(controller, syncs))
    await _until_ready(controller, syncs // 10)
    new_while_syncing = await _until_new_is_ready(
        server, api, _sync(0, identities, name="new-while-syncing")
    )
    await everything
    first_sync = time.monotonic() - start
    usage = process_usage([controller.pid])
    calls_first = _calls(vault)
    new_when_idle = await _until_new_is_ready(
        server, api, _sync(1, identities, name="new-when-idle")
    )
    await asyncio.sleep(interval)  # what was synced first is refreshed once
    calls, before = _calls(vault), process_usage([controller.pid])
    writes = await _writes(server)
    await asyncio.sleep(interval)
    after = process_usage([controller.pid])
    calls_quiet = _calls(vault) - calls
    quiet_writes = await _writes(server) - writes
    for identity in range(identities):
        for number in range(OBJECTS):
            vault.set_secret(VAULT, f"object-{identity}-{number}", f"new-{identity}-{number}")
    calls = _calls(vault)
    start = time.monotonic()
    await _until(lambda: _updated(controller) >= syncs)
    return Figures(
        syncs,
        identities,
        first_sync,
        usage.cpu_seconds,
        new_while_syncing,
        new_when_idle,
        process_usage([controller.pid]).rss_mib,
        calls_first,
        calls_quiet,
        after.cpu_seconds - before.cpu_seconds,
        quiet_writes,
        time.monotonic() - start,
        _calls(vault) - calls,
    )


def _updated(controller: _Controller) -> int:
    return int(controller.series().get('keyferry_secretsync_total{outcome="updated"}', 0))


def _calls(vault: DevVault) -> int:
    return sum(map(vault.count, (RequestKind.SECRET, RequestKind.VERSIONS, RequestKind.LIST)))


async def _writes(server: ApiServer) -> int:
    """Return how many objects of the controller were written, from the API server's metrics."""
    text = await server.kubectl("get", "--raw", "/metrics")
    pattern = (
        r'^apiserver_request_total{[^}]*resource="(?:secrets|secretsyncs)"[^}]*'
        r'verb="(?:PATCH|APPLY|POST|PUT|DELETE)"[^}]*} ([0-9.e+]+)$'
    )
    return int(sum(float(value) for value in re.findall(pattern, text, re.MULTILINE)))


if __name__ == "__main__":
    main()
