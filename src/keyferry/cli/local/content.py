"""The content of a SecretProviderClass, in memory."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from keyferry.errors import ObjectNamesError, RequestInvalidError
from keyferry.secrets.builder import choose_files, resolve_file
from keyferry.secrets.secret_data import secret_data

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from keyferry.content import MissingObject, NamedFile, ObjectVersion, SecretFile
    from keyferry.kubernetes import SecretProviderClass
    from keyferry.providers.expiry import Expiry
    from keyferry.rendering.class_options import EnvFileOptions


def missing_warnings(missing: Iterable[MissingObject]) -> list[str]:
    """Return a sentence without its period for each optional object that the vault lacks."""
    return [f"optional object {each.id} is missing: {each.explanation}" for each in missing]


@dataclass(frozen=True, slots=True)
class FetchedContent:
    """What a mount would write.

    Attributes:
        spc: the SecretProviderClass.
        files: the files.
        named_files: the other names of the files.
        env_file: the file with environment variables; None without one.
        versions: of the objects; an object that makes several files may be repeated.
        expiries: when objects expire.
    """

    spc: SecretProviderClass
    files: Sequence[SecretFile] = field(repr=False)
    named_files: tuple[NamedFile, ...]
    env_file: EnvFileOptions | None = None
    versions: tuple[ObjectVersion, ...] = ()
    expiries: tuple[Expiry, ...] = ()

    def find(self, object_name: str) -> SecretFile:
        """Return the file with this path, or of the object with this name or alias.

        Raises:
            RequestInvalidError: none matches, or several do; the message lists all objects.
        """
        try:
            return resolve_file(object_name, self.files, self.named_files)
        except ObjectNamesError as error:
            close = error.remedy if error.remedy.startswith("Did you mean") else ""
            raise RequestInvalidError(
                f"SecretProviderClass {self.spc.namespace}/{self.spc.name} has no object"
                f" {object_name!r}",
                f"{close} It has: {self._listed()}.".strip(),
            ) from None

    async def secret_data(self, name: str) -> Mapping[str, bytes]:
        """Return the data of a Secret of `secretObjects`.

        Raises:
            RequestInvalidError: no entry of `secretObjects` has the name.
            AuthorError: the files do not form a Secret of its type.
        """
        for entry in self.spc.secret_objects:
            if entry.name == name:
                request = choose_files(entry, self.files, self.named_files).request
                if request is None:
                    raise RequestInvalidError(
                        f"Secret {name!r} is left out: optional objects of it are missing",
                        "Create them in the vault, or give them a default.",
                    )
                return await asyncio.to_thread(secret_data, request)
        names = ", ".join(entry.name for entry in self.spc.secret_objects)
        raise RequestInvalidError(
            f"SecretProviderClass {self.spc.namespace}/{self.spc.name} has no Secret {name!r} in"
            " secretObjects",
            f"It has: {names}." if names else "It has no secretObjects.",
        )

    def _listed(self) -> str:
        objects = {name.path: name.object_name for name in self.named_files}
        paths = [file.path for file in self.files]
        return ", ".join(f"{path} ({objects[path]})" if path in objects else path for path in paths)
