"""Adds the files that are made from the other files of a volume."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.aio.jobs import ParseJob
from keyferry.content import NamedFile, SecretFile
from keyferry.rendering.class_options import parse_volume_options
from keyferry.rendering.derived_files import (
    DerivedFilesRequest,
    derive_files,
    derived_files_request,
)
from keyferry.rendering.templates import parse_template

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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


def derived_names(
    names: Sequence[NamedFile], parameters: Mapping[str, str]
) -> tuple[NamedFile, ...]:
    """Return the names of the files that are made from others.

    Args:
        names: of the files of objects.
        parameters: of the SecretProviderClass.

    Raises:
        ClassInvalidError: an option is malformed.
    """
    options = parse_volume_options(parameters)
    if not options.derives_files:
        return ()
    optional = [name for name in names if name.optional]
    found = [
        NamedFile(
            each.path,
            frozenset(),
            "a template",
            any(
                name.means(used)
                for used in parse_template(each.template).names
                for name in optional
            ),
            is_derived=True,
        )
        for each in options.templates
    ]
    if options.env_file is not None:
        found.append(NamedFile(options.env_file.path, frozenset(), "envFile", is_derived=True))
    return tuple(found)


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
