"""Collects the files of entries of `objects`, with the options that all providers share. [pure]"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from keyferry.content import MISSING_VERSION, MissingObject, ObjectVersion, SecretFile
from keyferry.errors import ObjectMissingError
from keyferry.records import replace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from keyferry.content import FileLimit
    from keyferry.rendering.object_options import ObjectOptions


@dataclass(frozen=True, slots=True)
class Extraction:
    """A value from which further files are made.

    Attributes:
        label: the object in messages, such as `secret db`.
        file: the file of the whole value, with the value itself.
        value: what is parsed.
        options: of the object.
        suffix: of the paths of all files; "" without a history.
    """

    label: str
    file: SecretFile
    value: bytes = field(repr=False)
    options: ObjectOptions
    suffix: str = ""


class EntryFiles:
    """Collects the files of entries.

    Args:
        limit: counts the files.

    Attributes:
        files: the files so far.
        extractions: the values from which further files are made.
        missing: the optional objects that the vault does not have.
    """

    def __init__(self, limit: FileLimit) -> None:
        self._limit = limit
        self.files: list[SecretFile] = []
        self.extractions: list[Extraction] = []
        self.missing: list[MissingObject] = []

    def add(
        self,
        label: str,
        file: SecretFile,
        options: ObjectOptions,
        *,
        value: bytes | None = None,
        suffix: str = "",
    ) -> None:
        """Add the file of an object.

        Args:
            label: the object in messages.
            file: its file.
            options: of the object.
            value: what `jmesPath` and `expandKeys` read; None for the contents of the file.
            suffix: of its path, with a history.

        Raises:
            MountLimitError: the files are too large.
        """
        if options.extracts:
            parsed = file.contents if value is None else value
            self.extractions.append(Extraction(label, file, parsed, options, suffix))
        if not options.expand_keys:
            self.files.append(self._limit.add(file))

    def add_missing(
        self,
        error: ObjectMissingError,
        label: str,
        object_id: str,
        file: SecretFile,
        options: ObjectOptions,
        *,
        further_paths: Sequence[str] = (),
        further_ids: Sequence[str] = (),
        suffix: str = "",
    ) -> ObjectVersion:
        """Add a missing object, with its default if it has one; return its version.

        Args:
            error: why it is missing.
            label: the object in messages.
            object_id: of the object in pod statuses.
            file: its file, without contents.
            options: of the object, which is optional.
            further_paths: of files and folders that it might have.
            further_ids: of the older versions that its history might have.
            suffix: of its path, with a history.
        """
        paths = (file.path, *further_paths, *options.extracted_paths)
        reason = error.problem.removeprefix(f"{label}: ")
        self.missing.append(
            MissingObject(object_id, paths, reason, options.keeps, tuple(further_ids))
        )
        if options.default is not None:
            contents = options.default.encode(errors="replace")
            default = replace(file, contents=contents)
            self.add(f"default of {label}", default, options, suffix=suffix)
        return ObjectVersion(object_id, MISSING_VERSION)


def is_missing(error: BaseException, options: ObjectOptions) -> bool:
    """Return whether an object may be left out because of `error`."""
    return options.optional and isinstance(error, ObjectMissingError)
