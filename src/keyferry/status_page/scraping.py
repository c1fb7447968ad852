"""Reads the metrics of all processes that call vaults: on demand, with bounds on time and size."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from keyferry.errors import KeyferryError
from keyferry.formats.fields import Field, FieldTypeError
from keyferry.kubernetes.api.client import ListOptions
from keyferry.kubernetes.api.resources import PodResource
from keyferry.status_page.facts import Process
from keyferry.status_page.vaults import SAMPLE_NAMES
from keyferry.telemetry.exposition import parse_samples

if TYPE_CHECKING:
    from collections.abc import Iterable

    from keyferry.kubernetes.api.client import KubeApi
    from keyferry.kubernetes.object_codec import Manifest

COMPONENTS = {"secrets-store-csi-driver": "driver", "keyferry-sync": "sync-controller"}
"""The label `app` of their pods, and what they are called."""
TIMEOUT_SECONDS = 2.0
MAX_BYTES = 2 << 20
MAX_CONCURRENT = 32
MAX_PROCESSES = 1000
"""Of more than these, the state of vaults is incomplete, and a note says so."""


class Target(Struct, frozen=True):
    """A process with metrics.

    Attributes:
        component: see `COMPONENTS`.
        namespace: of its pod.
        pod: its name.
        node: of the pod.
        address: of the pod; "" before it has one.
        port: of the metrics; 0 if the pod names none.
    """

    component: str
    namespace: str
    pod: str
    node: str
    address: str
    port: int


class MetricsReader(Protocol):
    """Reads the metrics of one process."""

    async def read(self, target: Target) -> bytes:
        """Return the exposition; at most `MAX_BYTES`.

        Raises:
            KeyferryError: the process does not respond.
        """


async def find_targets(api: KubeApi, namespace: str) -> tuple[Target, ...]:
    """Return the processes of a namespace.

    Args:
        api: the Kubernetes API.
        namespace: "*" for all.

    Raises:
        StoreError: their pods cannot be listed.
    """
    found: list[Target] = []
    for label, component in COMPONENTS.items():
        options = ListOptions(PodResource, namespace, {"app": label})
        for manifest in await api.list(options):
            found += _target(component, manifest)
    return tuple(found)


def _target(component: str, pod: Manifest) -> Iterable[Target]:
    """Yield the target of a pod that is not completed, and not being deleted."""
    try:
        field = Field(pod)
        metadata, status = field["metadata"], field["status"]
        if metadata["deletionTimestamp"].text() or status["phase"].text() in _COMPLETED:
            return
        yield Target(
            component,
            metadata["namespace"].text(),
            metadata["name"].text(),
            field["spec"]["nodeName"].text(),
            status["podIP"].text(),
            _metrics_port(field["spec"]),
        )
    except FieldTypeError:
        return


_COMPLETED = ("Succeeded", "Failed")


def _metrics_port(spec: Field) -> int:
    for container in spec["containers"].items():
        for port in container["ports"].items():
            if port["name"].text() == "metrics":
                return port["containerPort"].number()
    return 0


async def scrape(
    targets: Iterable[Target], reader: MetricsReader, *, seconds: float = TIMEOUT_SECONDS
) -> tuple[Process, ...]:
    """Return the metrics of processes; one that does not respond has a problem.

    Args:
        targets: the processes.
        reader: reads the metrics of one.
        seconds: how long the answer of one may take.
    """
    permits = asyncio.Semaphore(MAX_CONCURRENT)

    async def read(target: Target) -> Process:
        async with permits:
            return await _read(target, reader, seconds)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(read(each)) for each in targets]
    return tuple(task.result() for task in tasks)


async def _read(target: Target, reader: MetricsReader, seconds: float) -> Process:
    def result(text: str = "", problem: str = "") -> Process:
        samples = parse_samples(text, SAMPLE_NAMES)
        return Process(target.component, target.pod, target.node, samples, problem)

    if not target.port or not target.address:
        return result(problem="the pod has no address or no port with the name metrics")
    try:
        async with asyncio.timeout(seconds):
            content = await reader.read(target)
        return result(content.decode())
    except TimeoutError:
        return result(problem=f"no answer within {seconds:g} seconds")
    except KeyferryError as error:
        return result(problem=error.problem)
    except ValueError:  # also of the decoder
        return result(problem="the answer is not in the text format of Prometheus")
