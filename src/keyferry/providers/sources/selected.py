"""The objects that entries with `find` select, as all built-in providers see them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from msgspec import Struct

from keyferry.content import MISSING_VERSION, MissingObject, ObjectVersion
from keyferry.errors import ClassInvalidError, excerpt
from keyferry.formats.bounded_dict import BoundedDict
from keyferry.formats.volume_paths import count_problem, path_conflict
from keyferry.records import replace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from keyferry.providers.api import MountCall, MountResult
    from keyferry.rendering.selection import Selection

MAX_VOLUMES = 10_000
_NOT_SELECTED = "find does not select it any more"


class DeliveredObject(Protocol):
    """An object of a mount: an entry names it, or selects it with `find`."""

    @property
    def selection(self) -> Selection | None:
        """What selected it; None if an entry names it."""

    @property
    def file_paths(self) -> Sequence[str]:
        """The paths of its files."""


T = TypeVar("T", bound=DeliveredObject)


class Expansion(Struct, Generic[T], frozen=True):
    """The objects of a mount, after `find` was evaluated.

    Attributes:
        objects: those that entries name, and those that `find` selects.
        missing: optional entries that select nothing, and objects that the last refresh still
            selected.
        absent: the IDs of all objects in the volume that are not selected any more.
    """

    objects: tuple[T, ...]
    missing: tuple[MissingObject, ...] = ()
    absent: frozenset[str] = frozenset()

    def without(self, is_missing: Callable[[T], bool]) -> Expansion[T]:
        """Return the expansion without selected objects that disappeared after the list.

        When nothing is left, all stay, so that the errors of their reads are reported.
        """
        present = tuple(
            each for each in self.objects if each.selection is None or not is_missing(each)
        )
        return replace(self, objects=present) if present or self.missing else self

    def added_to(self, result: MountResult) -> MountResult:
        """Return `result` with what is missing."""
        if not self.missing:
            return result
        known = {version.id for version in result.versions}
        ids = dict.fromkeys(each.id for each in self.missing if each.id not in known)
        versions = tuple(ObjectVersion(id_, MISSING_VERSION) for id_ in ids)
        return replace(
            result,
            versions=result.versions + versions,
            missing=result.missing + self.missing,
        )


class AbsentObjects:
    """Remembers by volume which objects the last refresh did not select any more.

    An object is removed from a volume when two refreshes in a row do not select it, so that one
    incomplete list removes nothing. A new process has forgotten this, and removes nothing at first.
    """

    def __init__(self) -> None:
        self._absent: BoundedDict[str, frozenset[str]] = BoundedDict(MAX_VOLUMES)

    def kept(
        self, volume: str, absent: Iterable[MissingObject], paths: Iterable[str]
    ) -> tuple[MissingObject, ...]:
        """Return those that are absent for the first time.

        Args:
            volume: the target path.
            absent: the objects that are not selected any more.
            paths: of the files of the other objects, which replace those of absent ones.
        """
        before, used = self._absent.get(volume, frozenset()), list(paths)
        return tuple(
            each
            for each in absent
            if each.keeps
            and each.id not in before
            and path_conflict([*used, *each.paths[:1]]) is None
        )

    def applied_to(
        self, expansion: Expansion[T], absent: Iterable[MissingObject], volume: str
    ) -> Expansion[T]:
        """Return the expansion with what is absent.

        Args:
            expansion: the objects of a mount.
            absent: the objects in the volume that are not selected any more.
            volume: the target path.
        """
        absent = tuple(absent)
        paths = [path for each in expansion.objects for path in each.file_paths]
        return replace(
            expansion,
            missing=expansion.missing + self.kept(volume, absent, paths),
            absent=frozenset(each.id for each in absent),
        )

    def record(self, call: MountCall, absent: frozenset[str]) -> None:
        """Record what a successful refresh of a volume did not select any more."""
        if absent:
            self._absent[call.target_path] = absent
        else:
            self.forget(call.target_path)

    def forget(self, volume: str) -> None:
        """Forget a volume that was removed."""
        self._absent.pop(volume, None)


def not_selected(
    id_: str, paths: Sequence[str], *, keeps: bool, further_ids: Sequence[str] = ()
) -> MissingObject:
    """Return an object of a volume that is not selected any more."""
    return MissingObject(id_, tuple(paths), _NOT_SELECTED, keeps, tuple(further_ids))


def check_paths(named: Iterable[tuple[str, str]]) -> None:
    """Check the paths of all files, after objects were selected.

    Args:
        named: the path of each file, and its object.

    Raises:
        ClassInvalidError: two files have one path, or there are too many.
    """
    pairs = list(named)
    paths = [path for path, _ in pairs]
    if excess := count_problem(paths):
        raise ClassInvalidError(
            f"objects, with those that find selects, {excess}", "Make find more specific."
        )
    clash = path_conflict(paths)
    if clash is None:
        return
    first, second = clash
    owners = [name for path, name in pairs if path in clash]
    names = " and ".join(list(dict.fromkeys(owners))[:2])
    problem = (
        f"have the same file path '{excerpt(first)}'"
        if first == second
        else f"have paths that conflict: '{excerpt(first)}' is a folder in '{excerpt(second)}'"
    )
    raise ClassInvalidError(f"{names} {problem}", "Correct find or rewrite, or set another alias.")
