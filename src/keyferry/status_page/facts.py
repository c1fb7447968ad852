"""What the status page shows, as it was read: names and versions, no values. [pure]

A source reads `ClusterFacts` and `ProcessFacts` independently, because pages need one or both.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

if TYPE_CHECKING:
    from datetime import datetime

    from keyferry.inventory.objects import ObjectRow
    from keyferry.kubernetes.syncs.objects import SecretSync
    from keyferry.telemetry.exposition import Sample


class ClassFacts(Struct, frozen=True):
    """A SecretProviderClass.

    Attributes:
        namespace: of the SecretProviderClass.
        name: of the SecretProviderClass.
        provider: its provider; "" if it is invalid.
        vaults: the vaults that it names, as metrics name them.
        problem: why it is invalid; "" if it is valid.
    """

    namespace: str
    name: str
    provider: str = ""
    vaults: tuple[str, ...] = ()
    problem: str = ""


class ClusterFacts(Struct, frozen=True):
    """The objects of the cluster at one time.

    Attributes:
        read_at: the time.
        volumes: the rows of each volume.
        syncs: the SecretSyncs.
        classes: the SecretProviderClasses.
        notes: what is missing, and why; each a sentence.
    """

    read_at: datetime
    volumes: tuple[tuple[ObjectRow, ...], ...] = ()
    syncs: tuple[SecretSync, ...] = ()
    classes: tuple[ClassFacts, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Process:
    """The metrics of a driver, or of a replica of the SecretSync controller.

    Attributes:
        component: `driver` or `sync-controller`.
        pod: its name.
        node: on which it runs; "" if unknown.
        samples: its metrics.
        problem: why its metrics could not be read; "" if they were.
    """

    component: str
    pod: str
    node: str
    samples: tuple[Sample, ...] = field(default=(), repr=False)
    problem: str = ""


class ProcessFacts(Struct, frozen=True):
    """The processes that call vaults, at one time.

    Attributes:
        read_at: the time.
        processes: drivers and replicas of the SecretSync controller.
        notes: what is missing, and why; each a sentence.
    """

    read_at: datetime
    processes: tuple[Process, ...] = ()
    notes: tuple[str, ...] = ()


class StatusSource(Protocol):
    """Reads the facts."""

    async def read_cluster(self) -> ClusterFacts:
        """Read the objects of the cluster.

        Raises:
            StoreError: they cannot be read.
        """

    async def read_processes(self) -> ProcessFacts:
        """Read the metrics of the processes; one that does not respond has a problem.

        Raises:
            StoreError: their pods cannot be listed.
        """
