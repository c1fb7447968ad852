"""Which files a class for Vault makes, and by which names they may be called. [pure]"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.providers.api import NamedFile
from keyferry.providers.vault.objects import parse_objects

if TYPE_CHECKING:
    from collections.abc import Mapping


def named_files(parameters: Mapping[str, str]) -> tuple[NamedFile, ...]:
    """The files that a mount of a class produces, in their order; their paths are their names.

    Args:
        parameters: of the class alone.

    Raises:
        ClassInvalidError: `objects` is malformed.
    """
    objects = parse_objects(parameters.get("objects", ""))
    return tuple(NamedFile(found.name, frozenset(), str(found)) for found in objects)
