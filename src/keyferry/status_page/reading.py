"""Reads what a page shows, with notes on what may not be read."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from msgspec import Struct, field

from keyferry.errors import StorePermissionError
from keyferry.inventory.objects import ObjectRow, Surroundings, volume_rows
from keyferry.kubernetes.api.api_errors import ApiNotFoundError
from keyferry.kubernetes.api.client import ListOptions
from keyferry.kubernetes.api.resources import PodStatusResource, resource_name
from keyferry.providers.registry import vault_hosts
from keyferry.status_page.facts import ClassFacts, ProcessFacts
from keyferry.status_page.scraping import MAX_PROCESSES, find_targets, scrape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from keyferry.kubernetes.api.client import KubeApi
    from keyferry.kubernetes.api.resources import Resource
    from keyferry.kubernetes.object_codec import Manifest
    from keyferry.kubernetes.objects import SecretProviderClass
    from keyferry.status_page.scraping import MetricsReader

T = TypeVar("T")

NO_SURROUNDINGS = Surroundings()
_CLASSES_PER_STEP = 200
_MAX_OBJECTS_TEXT = 64 * 1024
"""Longer `objects` are not searched for further vaults, which takes time."""


class Notes(Struct, frozen=True):
    """Collects what is missing.

    Attributes:
        found: sentences.
        subject: who lacks permissions, for the notes.
    """

    subject: str
    found: list[str] = field(default_factory=list)

    def denied(self, kind: type[Resource], effect: str) -> None:
        """Note that a kind may not be listed."""
        self.found.append(f"{self.subject} may not list {resource_name(kind)}, so {effect}.")


async def list_or_note(
    api: KubeApi,
    options: ListOptions,
    notes: Notes,
    effect: str,
    parse: Callable[[Manifest], T],
) -> tuple[T, ...]:
    """Return the objects of a selection; none if their CRD is not installed.

    Args:
        api: the Kubernetes API.
        options: the selection.
        notes: get a note if the objects may not be listed.
        effect: of that, for the note.
        parse: of each object, page by page.

    Raises:
        StoreError: the API does not respond.
    """
    try:
        return await api.list_parsed(options, parse)
    except ApiNotFoundError:
        return ()
    except StorePermissionError:
        notes.denied(options.kind, effect)
        return ()


async def read_volumes(
    api: KubeApi, namespace: str, notes: Notes, known: Surroundings = NO_SURROUNDINGS
) -> tuple[tuple[ObjectRow, ...], ...]:
    """Return the rows of each volume; see `list_or_note`.

    Args:
        api: the Kubernetes API.
        namespace: "*" for all.
        notes: get a note if the volumes may not be listed.
        known: what the volumes refer to.
    """
    options = ListOptions(PodStatusResource, namespace)
    effect = "volumes of pods are not shown"

    def parse(manifest: Manifest) -> tuple[ObjectRow, ...]:
        return tuple(volume_rows(manifest, known))

    return await list_or_note(api, options, notes, effect, parse)


async def read_processes(
    api: KubeApi, namespace: str, reader: MetricsReader, notes: Notes, now: Callable[[], datetime]
) -> ProcessFacts:
    """Return the metrics of the processes of a namespace.

    Args:
        api: the Kubernetes API.
        namespace: "*" for all.
        reader: reads the metrics of one process.
        notes: get a note if the pods may not be listed.
        now: the time.

    Raises:
        StoreError: the API does not respond.
    """
    try:
        targets = await find_targets(api, namespace)
    except StorePermissionError:
        notes.found.append(f"{notes.subject} may not list pods, so the state of vaults is unknown.")
        targets = ()
    if len(targets) > MAX_PROCESSES:
        notes.found.append(
            f"The state of vaults is that of {MAX_PROCESSES:,} of {len(targets):,} processes."
        )
    processes = await scrape(targets[:MAX_PROCESSES], reader)
    return ProcessFacts(now(), processes, tuple(notes.found))


class ClassReader:
    """Finds the vaults of SecretProviderClasses, once for each version of one."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], tuple[str, ClassFacts]] = {}

    async def facts(self, classes: Iterable[SecretProviderClass]) -> tuple[ClassFacts, ...]:
        """Return what the page shows of the classes; other work goes on meanwhile."""
        before, self._known = self._known, {}
        for number, spc in enumerate(classes):
            if number % _CLASSES_PER_STEP == 0:
                await asyncio.sleep(0)
            key = (spc.namespace, spc.name)
            version, found = before.get(key, ("", None))
            if found is None or not spc.version or version != spc.version:
                found = _class_facts(spc)
            self._known[key] = (spc.version, found)
        return tuple(found for _, found in self._known.values())


def _class_facts(spc: SecretProviderClass) -> ClassFacts:
    if len(spc.parameters.get("objects", "")) > _MAX_OBJECTS_TEXT:
        return ClassFacts(spc.namespace, spc.name, spc.provider)
    return ClassFacts(spc.namespace, spc.name, spc.provider, vault_hosts(spc))
