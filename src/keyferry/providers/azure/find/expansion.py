"""Replaces the entries with `find` by the objects that they select."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from keyferry.content import MISSING_VERSION, MissingObject
from keyferry.errors import KeyferryError, ObjectMissingError
from keyferry.providers.azure.objects import CERTIFICATE_SUFFIX, KEY_SUFFIX, ObjectType
from keyferry.providers.azure.versions import request_for
from keyferry.providers.sources.selected import Expansion, check_paths, not_selected
from keyferry.records import replace
from keyferry.rendering.selection import choose

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from keyferry.providers.api import MountCall
    from keyferry.providers.azure.objects import KeyVaultObject
    from keyferry.providers.azure.responses import ListedObject
    from keyferry.providers.azure.versions import FetchOutcome, ObjectRequest
    from keyferry.providers.sources.selected import AbsentObjects
    from keyferry.rendering.selection import Selection


class ObjectLister(Protocol):
    """Lists the objects of one vault (`CachedKeyVault`)."""

    @property
    def host(self) -> str:
        """The host of the vault."""

    async def list_objects(self, type_: ObjectType) -> tuple[ListedObject, ...]:
        """List all objects of one type."""

    def wall_time(self) -> float:
        """Return the seconds since 1970."""


async def expand(
    objects: Sequence[KeyVaultObject],
    vaults: Sequence[ObjectLister | KeyferryError],
) -> Expansion[KeyVaultObject]:
    """Return the objects of a mount; each vault is listed at most once for each type.

    Args:
        objects: the entries.
        vaults: of each source, or why it cannot be opened.

    Raises:
        KeyferryError: a list failed, or an entry selects nothing, too much, or a path twice.
    """
    if not any(each.is_selector for each in objects):
        return Expansion(tuple(objects))
    lists: dict[tuple[int, ObjectType], tuple[ListedObject, ...]] = {}
    expanded: list[KeyVaultObject] = []
    missing: list[MissingObject] = []
    for each in objects:
        if each.selection is None:
            expanded.append(each)
            continue
        vault, key = vaults[each.source], (each.source, each.ref.type)
        if isinstance(vault, KeyferryError):
            raise vault
        if key not in lists:
            lists[key] = await vault.list_objects(each.ref.type)
        names = selected_names(each.selection, lists[key], vault.wall_time())
        try:
            expanded += _selected(each, names, place=f"vault {vault.host}")
        except ObjectMissingError as error:
            if not each.options.optional:
                raise
            missing.append(MissingObject(_selection_id(each), (), error.problem, keeps=False))
    check_paths((path, str(each)) for each in expanded for path in each.file_paths)
    return Expansion(tuple(expanded), tuple(missing))


def settle(
    expansion: Expansion[KeyVaultObject],
    entries: Sequence[KeyVaultObject],
    outcomes: Mapping[ObjectRequest, FetchOutcome],
    call: MountCall,
    absent_objects: AbsentObjects,
) -> Expansion[KeyVaultObject]:
    """Return the expansion without objects that disappeared between list and read.

    Args:
        expansion: what was read.
        entries: of the SecretProviderClass.
        outcomes: of the requests.
        call: the mount.
        absent_objects: what the last refresh did not select any more.
    """
    if not any(each.is_selector for each in entries):
        return expansion
    present = expansion.without(
        lambda each: isinstance(outcomes[request_for(each)], ObjectMissingError)
    )
    absent = _absent(entries, present.objects, call)
    return absent_objects.applied_to(present, absent, call.target_path)


def selected_names(
    selection: Selection, listed: Iterable[ListedObject], now: float
) -> tuple[str, ...]:
    """Return the names of the objects that are selected.

    Objects that are disabled, expired or not valid yet are skipped, and so are the secrets and keys
    of certificates, which the lists of secrets and keys repeat.

    Args:
        selection: of an entry.
        listed: the objects of the vault.
        now: seconds since 1970.
    """
    return tuple(
        each.name
        for each in listed
        if each.is_usable(now)
        and not each.managed
        and selection.matches_name(each.name)
        and selection.matches_tags(each.properties.tags)
    )


def _selected(
    entry: KeyVaultObject, names: Iterable[str], *, place: str
) -> Iterator[KeyVaultObject]:
    assert entry.selection is not None
    for name, path in choose(entry.selection, names, place=place):
        ref = replace(entry.ref, name=name)
        yield replace(entry, ref=ref, path=path)


def _selection_id(entry: KeyVaultObject) -> str:
    assert entry.selection is not None
    prefix = f"{entry.vault}/" if entry.vault else ""
    return f"{prefix}{entry.ref.type.value}/{entry.selection}"


def _absent(
    entries: Iterable[KeyVaultObject], objects: Iterable[KeyVaultObject], call: MountCall
) -> Iterator[MissingObject]:
    """Yield the objects in the volume that an entry may have selected before."""
    seen = {id_ for each in objects for id_ in (each.id, *each.ids)}
    current = [each.id for each in call.current_versions if each.version != MISSING_VERSION]
    for entry in entries:
        if not entry.is_selector or entry.selection is None:
            continue
        prefix = f"{entry.vault}/{entry.ref.type.value}/".removeprefix("/")
        for id_ in current:
            name, _, _ = id_.removeprefix(prefix).partition("/")
            own_id = prefix + name
            if not id_.startswith(prefix) or own_id in seen:
                continue
            if not entry.selection.matches_name(name):
                continue
            seen.add(own_id)
            path = entry.selection.path_for(name)
            suffixes = (CERTIFICATE_SUFFIX, KEY_SUFFIX)
            parts = suffixes if entry.ref.type is ObjectType.SECRET else ()
            further = [each for each in current if each.startswith(f"{own_id}/")]
            yield not_selected(
                id_,
                (path, *(path + part for part in parts)),
                keeps=entry.options.keeps,
                further_ids=[each for each in further if each != id_],
            )
