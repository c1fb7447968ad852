"""Which files a class for Azure makes, and by which names they may be called. [pure]

Source: azure, sections 4.3, 5.7 and 8.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.providers.api import NamedFile
from keyferry.providers.azure.objects import KeyVaultObject, ObjectType, parse_objects

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

CERTIFICATE_SUFFIX = ".crt"
KEY_SUFFIX = ".key"


def named_files(parameters: Mapping[str, str]) -> tuple[NamedFile, ...]:
    """The files that a mount of a class may produce, and the names for them, in their order.

    Whether an object has as many versions as its history asks for, and whether a secret belongs to
    a certificate and so may come in separate files, only the vault knows; what there is not, a
    mount leaves out.

    Args:
        parameters: of the class alone.

    Raises:
        ClassInvalidError: `objects` is malformed.
    """
    objects = parse_objects(parameters.get("objects", "").strip())
    return tuple(file for found in objects for file in _object_files(found))


def _object_files(vault_object: KeyVaultObject) -> Iterator[NamedFile]:
    for index, path in enumerate(vault_object.paths):
        # The newest version of a history answers to the names of the object as a whole.
        names = {vault_object.ref.name} if index == 0 else set()
        origin = str(vault_object.ref)
        if vault_object.history > 1:
            names |= {f"{vault_object.ref.name}/{index}"} | (
                {vault_object.path} if index == 0 else set()
            )
            origin += f", version {index} of its history"
        if vault_object.ref.type is ObjectType.SECRET:
            for suffix in (CERTIFICATE_SUFFIX, KEY_SUFFIX):
                spelled = frozenset(f"{name}{suffix}" for name in names)
                yield NamedFile(path + suffix, spelled, f"{suffix} of {origin}")
        yield NamedFile(path, frozenset(names), origin)
