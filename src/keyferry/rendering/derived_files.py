"""Makes files of a volume from its other files. [pure]

It reads content of a tenant, so it runs as a parse job.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from keyferry.content import SecretFile  # noqa: TC001 (msgspec)
from keyferry.errors import MountLimitError
from keyferry.rendering.class_options import EnvFileOptions  # noqa: TC001 (msgspec)
from keyferry.rendering.env_file import MAX_FILE_BYTES, env_file, variable_names

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from keyferry.rendering.class_options import VolumeOptions


@dataclass(frozen=True, slots=True)
class DerivedFilesRequest:
    """The argument of the job.

    Attributes:
        files: the files that others are made from.
        absent: paths of files that optional objects would have, and folders of them.
        env_file: the file with environment variables; None without one.
    """

    files: tuple[SecretFile, ...]
    absent: tuple[str, ...]
    env_file: EnvFileOptions | None = None


def derived_files_request(
    files: Sequence[SecretFile], options: VolumeOptions, absent: Iterable[str] = ()
) -> DerivedFilesRequest | None:
    """Return the argument of the job; None if no file is made from others.

    Only files that others are made from are part of it.

    Args:
        files: all files of the volume.
        options: of the volume.
        absent: paths of files that optional objects would have, and folders of them.

    Raises:
        AuthorError: names or sizes are impossible, whatever the files contain.
    """
    if not options.derives_files:
        return None
    absent = tuple(absent)
    if options.env_file is None:
        return DerivedFilesRequest((), absent)
    names = variable_names([file.path for file in files], options.env_file, absent)
    chosen = tuple(file for file in files if file.path in names)
    size = sum(len(file.contents) for file in chosen)
    if size > MAX_FILE_BYTES:
        raise MountLimitError(
            f"envFile '{options.env_file.path}' would have more than {size} bytes, and kubelet"
            f" reads at most {MAX_FILE_BYTES}",
            "Leave large files out of it: write 'FILE: \"\"' below envNames: |.",
        )
    left_out = tuple(path for path, name in options.env_file.names if not name)
    return DerivedFilesRequest(chosen, (*absent, *left_out), options.env_file)


def derive_files(request: DerivedFilesRequest) -> tuple[SecretFile, ...]:
    """Return the files that are made from others.

    Raises:
        KeyferryError: a name or a value is impossible.
    """
    derived: list[SecretFile] = []
    if request.env_file is not None:
        derived.append(env_file(request.files, request.env_file, request.absent))
    return tuple(derived)
