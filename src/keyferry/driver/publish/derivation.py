"""Adds the files that are made from the other files of a volume."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.aio.jobs import ParseJob
from keyferry.content import SecretFile
from keyferry.rendering.derived_files import (
    DerivedFilesRequest,
    derive_files,
    derived_files_request,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from keyferry.aio.jobs import JobRunner
    from keyferry.content import MissingObject
    from keyferry.rendering.class_options import VolumeOptions

DERIVED_FILES = ParseJob(
    "derived-files",
    derive_files,
    DerivedFilesRequest,
    tuple[SecretFile, ...],
    limit_problem="templates and envFile cannot be rendered safely",
    limit_remedy="Use fewer or smaller objects in them.",
)
"""Makes files of a volume from its other files."""


async def with_derived_files(
    files: Sequence[SecretFile],
    missing: Sequence[MissingObject],
    options: VolumeOptions,
    *,
    jobs: JobRunner,
    tenant: str,
) -> tuple[SecretFile, ...]:
    """Return the files of a volume, with those that its options make from them.

    Args:
        files: of the objects.
        missing: the optional objects that the vault does not have.
        options: of the volume.
        jobs: runs the job that reads the files.
        tenant: the namespace of the pod; "" outside a cluster.

    Raises:
        AuthorError: an option does not fit the files.
        ObjectUnusableError: a file cannot be used.
    """
    absent = (path for object_ in missing for path in object_.paths)
    request = derived_files_request(files, options, absent)
    if request is None:
        return tuple(files)
    return (*files, *await jobs.run(DERIVED_FILES, request, tenant=tenant))
