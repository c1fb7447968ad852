"""Reports optional objects that a volume lacks, and those that were found later, in events."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.driver.status.events import objects_found, objects_missing
from keyferry.driver.volumes.volume_events import VolumePublished, VolumeRefreshed, VolumeRemoved
from keyferry.telemetry.logs import ObjectName, get_logger

if TYPE_CHECKING:
    from keyferry.content import MissingObject
    from keyferry.driver.volumes.volume_events import VolumeEvent
    from keyferry.driver.volumes.volume_table import Volume
    from keyferry.kubernetes import ObjectStore
    from keyferry.kubernetes.objects import SecretProviderClass

_log = get_logger("publish")


class MissingObjectReporter:
    """Records one event for each change of what a volume lacks.

    Args:
        store: where Kubernetes events are recorded.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._missing: dict[str, frozenset[str]] = {}
        """By target path: the ids of the objects that the volume lacks."""

    async def on_volume_event(self, event: VolumeEvent) -> None:
        """Compare the content of a volume with what it had before."""
        match event:
            case VolumePublished(expiries=None):
                pass  # filled by an earlier process, which has reported it
            case VolumePublished(volume, spc) | VolumeRefreshed(volume, spc):
                await self._update(volume, spc)
            case VolumeRemoved(target_path=target_path):
                self._missing.pop(target_path, None)
            case _:
                pass

    async def _update(self, volume: Volume, spc: SecretProviderClass) -> None:
        before = self._missing.get(volume.target_path, frozenset())
        by_id = {missing.id: missing for missing in volume.missing}
        if by_id:
            self._missing[volume.target_path] = frozenset(by_id)
        else:
            self._missing.pop(volume.target_path, None)
        new = tuple(missing for id_, missing in by_id.items() if id_ not in before)
        listed = {version.id for version in volume.versions}
        found = tuple(sorted(id_ for id_ in before - by_id.keys() if id_ in listed))
        if new:
            self._log("optional objects are missing", volume, [each.id for each in new])
            await self._store.record_event(objects_missing(volume.pod, spc, new))
        if found:
            self._log("optional objects were found", volume, found)
            await self._store.record_event(objects_found(volume.pod, spc, found))

    @staticmethod
    def _log(message: str, volume: Volume, ids: list[str] | tuple[str, ...]) -> None:
        _log.info(
            message,
            pod=ObjectName(volume.pod.namespace, volume.pod.name),
            spc=ObjectName(volume.pod.namespace, volume.class_name),
            objects=", ".join(ids),
        )


def missing_note(missing: tuple[MissingObject, ...]) -> str:
    """Return one sentence without its period that names missing objects; "" for none."""
    if not missing:
        return ""
    named = ", ".join(f"{each.id} ({each.explanation})" for each in missing)
    return f"missing optional objects: {named}"
