"""The files of a SecretProviderClass, as far as its parameters decide."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from keyferry.content import SecretFile
from keyferry.errors import AuthorError
from keyferry.lint.upstream import object_entries
from keyferry.providers.registry import files_of
from keyferry.rendering.class_options import parse_volume_options

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from keyferry.content import NamedFile
    from keyferry.kubernetes.objects import SecretProviderClass

_SELECTION = "find"
"""The field of entries whose files are known only from the vault."""


class ClassContent(Struct, frozen=True):
    """The files that a mount may produce, all without content.

    Attributes:
        files: the files.
        named_files: the names by which a Secret may refer to them.
    """

    files: Sequence[SecretFile]
    named_files: Sequence[NamedFile] = ()


def content_of(spc: SecretProviderClass, names: Iterable[str]) -> ClassContent | None:
    """Return the files of a SecretProviderClass; None if they are not known.

    Args:
        spc: the SecretProviderClass.
        names: by which Secrets refer to files. Only the vault knows the files in a folder, so those
            that are named are assumed.
    """
    named = files_of(spc)
    if named is None or selects_objects(spc):
        return None
    try:
        derived = parse_volume_options(spc.parameters).derived_paths
    except AuthorError:
        return None
    folders = [name for name in named if name.is_folder]
    paths = [
        *(name.path for name in named if not name.is_folder),
        *derived,
        *sorted(name for name in names if any(folder.means(name) for folder in folders)),
    ]
    return ClassContent(_empty_files(paths), named)


def assumed_content(names: Iterable[str]) -> ClassContent:
    """Return files of these names, for a SecretProviderClass whose files are not known."""
    return ClassContent(_empty_files(names))


def selects_objects(spc: SecretProviderClass) -> bool:
    """Return whether an entry of `objects` selects objects, so that only the vault knows them."""
    entries = object_entries(spc.parameters.get("objects", ""), nested=spc.provider == "azure")
    return any(_SELECTION in entry.entries for entry in entries)


def _empty_files(paths: Iterable[str]) -> list[SecretFile]:
    return [SecretFile(path, 0, b"") for path in dict.fromkeys(paths)]
