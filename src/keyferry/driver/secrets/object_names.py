"""Which file of a volume an `objectName` of `secretObjects` means. [pure]

Source: driver.md, section 4.4: the exact path of a file, which therefore always wins. Beyond
upstream, the object's own name in the vault is a name too, unless it fits several files.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from keyferry.errors import ObjectNamesError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from keyferry.providers.api import NamedFile, SecretFile

_MAX_LISTED = 20
"""How many candidates a message lists."""


def resolve_file(
    object_name: str, files: Sequence[SecretFile], named_files: Sequence[NamedFile]
) -> SecretFile:
    """The file at that path, else the file of the object with that name.

    Args:
        object_name: case-sensitive, trimmed.
        files: the whole content of the volume.
        named_files: the names beside the paths; one whose path is not among `files` counts for
            nothing.

    Raises:
        ObjectNamesError: there is none, or the name fits several; the message lists the candidates.
    """
    by_path = {file.path: file for file in files}
    if not object_name:
        raise ObjectNamesError(
            "objectName is empty", "Name a file of the volume, its alias or its object."
        )
    if object_name in by_path:
        return by_path[object_name]
    present = [name for name in named_files if name.path in by_path]
    origins = {name.path: name.object_name for name in present if object_name in name.aliases}
    if not origins:
        absent = [name for name in named_files if name.path not in by_path]
        raise _not_found_error(object_name, by_path, present, absent)
    if len(origins) > 1:
        raise ObjectNamesError(
            f"objectName {object_name!r} is ambiguous: it fits "
            f"{_format_candidates(origins, origins)}",
            "Use the path of the file that you mean.",
        )
    (path,) = origins
    return by_path[path]


def _not_found_error(
    object_name: str,
    paths: Iterable[str],
    present: Sequence[NamedFile],
    absent: Iterable[NamedFile],
) -> ObjectNamesError:
    listed = _format_candidates(paths, {name.path: name.object_name for name in present})
    names = {*paths, *(alternative for name in present for alternative in name.aliases)}
    close = difflib.get_close_matches(object_name, sorted(names), n=1)
    if any(object_name == name.path or object_name in name.aliases for name in absent):
        remedy = "The class names it since; the next refresh brings it, or a restart of the pod."
    elif close:
        remedy = f"Did you mean {close[0]!r}?"
    else:
        remedy = "Use the path of a file (its alias, where it has one) or the name of its object."
    return ObjectNamesError(
        f"file matching objectName {object_name!r} not found in the pod; the volume holds {listed}",
        remedy,
    )


def _format_candidates(paths: Iterable[str], origins: Mapping[str, str]) -> str:
    texts = [f"{path} ({origins[path]})" if path in origins else path for path in sorted(paths)]
    if len(texts) > _MAX_LISTED:
        texts[_MAX_LISTED:] = [f"{len(texts) - _MAX_LISTED} more"]
    return ", ".join(texts) or "no file"
