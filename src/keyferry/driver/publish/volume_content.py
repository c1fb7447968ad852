"""Completes what a provider returned to the content of a volume."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.content import MISSING_VERSION
from keyferry.errors import ClassInvalidError
from keyferry.records import replace

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from keyferry.content import FileOwner, MissingObject, ObjectVersion, SecretFile
    from keyferry.driver.volumes.operations import VolumeOperations
    from keyferry.kubernetes import SecretProviderClass
    from keyferry.providers.api import MountResult
    from keyferry.rendering.class_options import VolumeOptions


class VolumeContent:
    """Completes the content of volumes.

    Args:
        operations: reads the files of volumes.
    """

    def __init__(self, operations: VolumeOperations) -> None:
        self._operations = operations

    async def complete(
        self,
        result: MountResult,
        options: VolumeOptions,
        *,
        target: Path,
        previous: Sequence[ObjectVersion] | None,
    ) -> MountResult:
        """Return the content to write.

        Args:
            result: of the provider.
            options: of the volume.
            target: the mount point.
            previous: the versions of the objects that are in the volume, if they are known; None if
                the volume has no content yet.

        Raises:
            VolumeError: the files of the volume cannot be read.
        """
        if result.missing and previous is not None:
            result = await self._with_kept_files(result, options, target, previous)
        return replace(result, files=with_owner(result.files, options.owner))

    async def _with_kept_files(
        self,
        result: MountResult,
        options: VolumeOptions,
        target: Path,
        previous: Sequence[ObjectVersion],
    ) -> MountResult:
        """Return `result` with the last files and versions of objects that disappeared.

        Files that templates or envFile made in a folder of these objects are made again.
        An object that was missing before has no last content, but perhaps a default.
        """
        versions = {version.id: version for version in previous}
        lost = [
            missing
            for missing in result.missing
            if missing.keeps and _had_content(missing.id, versions)
        ]
        if not lost:
            return result
        present = [
            file
            for file in await self._operations.read(target)
            if file.path not in options.derived_paths
        ]
        files = {file.path: file for file in result.files}
        kept: dict[str, MissingObject] = {}
        for missing in lost:
            last = {file.path: file for file in present if missing.has(file.path)}
            if last:
                kept[missing.id] = missing
                default = {path for path in files if missing.has(path)}
                files = {**last, **{p: f for p, f in files.items() if p not in default}}
        return replace(
            result,
            files=tuple(files.values()),
            versions=tuple(
                last
                for version in result.versions
                for last in _last_versions(version, kept.get(version.id), versions)
            ),
            missing=tuple(
                replace(missing, kept=True) if missing in kept.values() else missing
                for missing in result.missing
            ),
        )


def _last_versions(
    version: ObjectVersion, kept: MissingObject | None, previous: Mapping[str, ObjectVersion]
) -> list[ObjectVersion]:
    """Return what the volume has instead of `version`: of a kept object, all it had before."""
    if kept is None:
        return [version]
    last = [previous[id_] for id_ in (kept.id, *kept.further_ids) if id_ in previous]
    return last or [version]


def _had_content(object_id: str, versions: Mapping[str, ObjectVersion]) -> bool:
    """Return whether a volume with these versions has content of an object.

    Without versions, which a driver that was just started may not know, it may have.
    """
    if not versions:
        return True
    return object_id in versions and versions[object_id].version != MISSING_VERSION


def with_owner(files: Sequence[SecretFile], owner: FileOwner | None) -> tuple[SecretFile, ...]:
    """Return the files, those without an owner with that of the volume.

    So `fileOwner` of a SecretProviderClass also applies to the files of external providers.
    """
    if owner is None:
        return tuple(files)
    return tuple(file if file.owner is not None else replace(file, owner=owner) for file in files)


def check_written_by_provider(options: VolumeOptions, spc: SecretProviderClass) -> None:
    """Check that no option concerns the files of a provider that writes them itself.

    Args:
        options: of the volume.
        spc: the SecretProviderClass, for messages.

    Raises:
        ClassInvalidError: an option would have no effect.
    """
    if options.owner is None and not options.derives_files:
        return
    raise ClassInvalidError(
        f"SecretProviderClass {spc.namespace}/{spc.name}: provider {spc.provider!r} writes"
        " files itself, and fileOwner, envFile and templates have no effect on them",
        "Remove these parameters, or configure the provider instead.",
    )
