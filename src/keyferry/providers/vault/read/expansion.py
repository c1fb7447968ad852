"""Replaces the entries with `find` by the secrets of a folder that they select."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from keyferry.content import MISSING_VERSION, MissingObject
from keyferry.errors import ClassInvalidError, KeyferryError, ObjectMissingError
from keyferry.providers.sources.selected import Expansion, check_paths, not_selected
from keyferry.providers.vault.api_path import ApiPath
from keyferry.providers.vault.objects import ReadRequest, VaultObject, selected_object
from keyferry.providers.vault.product import OPENBAO
from keyferry.rendering.selection import choose

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from keyferry.formats.go_json import Json
    from keyferry.providers.api import MountCall
    from keyferry.providers.sources.selected import AbsentObjects
    from keyferry.providers.vault.http.response import VaultResponse
    from keyferry.providers.vault.objects import SourceRequest
    from keyferry.providers.vault.product import Product
    from keyferry.rendering.selection import Selection

MAX_METADATA_READS = 500
"""The maximum number of secrets of one entry whose tags are read individually."""
LIST_QUERY = "list=true"


class SecretReader(Protocol):
    """Sends requests to one vault (`VaultReader`)."""

    @property
    def host(self) -> str:
        """The host of the vault."""

    async def read_all(
        self, requests: Iterable[ReadRequest]
    ) -> Mapping[ReadRequest, VaultResponse | KeyferryError]:
        """Send all requests."""


async def expand(
    objects: Sequence[VaultObject],
    vaults: Sequence[SecretReader | KeyferryError],
    product: Product,
) -> Expansion[VaultObject]:
    """Return the objects of a mount; each folder is listed once.

    Args:
        objects: the entries.
        vaults: of each source, or why it cannot be opened.
        product: the product; OpenBao lists a folder with the tags of its secrets.

    Raises:
        KeyferryError: a list failed, or an entry selects nothing, too much, or a path twice.
    """
    if not any(each.is_selector for each in objects):
        return Expansion(tuple(objects))
    expanded: list[VaultObject] = []
    missing: list[MissingObject] = []
    for each in objects:
        selection = each.selection
        if selection is None:
            expanded.append(each)
            continue
        vault = vaults[each.source]
        if isinstance(vault, KeyferryError):
            raise vault
        names = await _selected_names(selection, vault, product)
        try:
            chosen = choose(selection, names, place=f"{selection.folder} of {vault.host}")
            expanded += [selected_object(each, name, path) for name, path in chosen]
        except ObjectMissingError as error:
            if not each.options.optional:
                raise
            prefix = f"{each.vault}/" if each.vault else ""
            missing.append(MissingObject(f"{prefix}{selection}", (), error.problem, keeps=False))
    check_paths((path, str(each)) for each in expanded for path in each.file_paths)
    return Expansion(tuple(expanded), tuple(missing))


async def _selected_names(
    selection: Selection, vault: SecretReader, product: Product
) -> tuple[str, ...]:
    folder = selection.folder
    detailed = bool(selection.tags) and product is OPENBAO
    listed = await _read(vault, ApiPath(list_path(folder, detailed=detailed), LIST_QUERY))
    names = [name for name in _keys(listed) if selection.matches_name(name)]
    if not selection.tags:
        return tuple(names)
    if detailed:
        tags = {name: _tags_in(_entries(listed).get(name)) for name in names}
    else:
        tags = await _read_tags(selection, names, vault)
    return tuple(name for name in names if selection.matches_tags(tags[name]))


async def _read_tags(
    selection: Selection, names: Sequence[str], vault: SecretReader
) -> dict[str, Mapping[str, str]]:
    """Return the tags of each secret; HashiCorp Vault does not list them."""
    if len(names) > MAX_METADATA_READS:
        raise ClassInvalidError(
            f"{selection} would read the metadata of {len(names)} secrets in {selection.folder};"
            f" at most {MAX_METADATA_READS} are allowed",
            "Make find.name more specific.",
        )
    metadata = list_path(selection.folder)
    requests = {name: ReadRequest(ApiPath(f"{metadata}/{name}")) for name in names}
    responses = await vault.read_all(requests.values())
    tags: dict[str, Mapping[str, str]] = {}
    for name, request in requests.items():
        response = responses[request]
        if isinstance(response, ObjectMissingError):
            tags[name] = {}  # deleted since the list was read
        elif isinstance(response, KeyferryError):
            raise response
        else:
            tags[name] = _tags_in(response.data)
    return tags


async def _read(vault: SecretReader, path: ApiPath) -> VaultResponse | None:
    """Return the list of a folder; None if the folder is empty or does not exist."""
    request = ReadRequest(path)
    response = (await vault.read_all([request]))[request]
    if isinstance(response, ObjectMissingError):
        return None
    if isinstance(response, KeyferryError):
        raise response
    return response


def list_path(folder: str, *, detailed: bool = False) -> str:
    """Return the API path that lists a folder: of KV version 2 if it has `data` in its path."""
    if not is_kv2(folder):
        return folder
    mount, _, rest = f"{folder}/".partition("/data/")
    return f"{mount}/{'detailed-metadata' if detailed else 'metadata'}/{rest}".rstrip("/")


def is_kv2(folder: str) -> bool:
    """Return whether the path of a folder is of KV version 2."""
    return "/data/" in f"{folder}/"


def _keys(response: VaultResponse | None) -> list[str]:
    """Return the names of the secrets in a list, without the folders."""
    keys = response.data.get("keys") if response and response.data else None
    if not isinstance(keys, list | tuple):
        return []
    names = [key for key in keys if isinstance(key, str)]
    # A name with a slash is a folder, or would lead to another one.
    return [name for name in names if name not in ("", ".", "..") and "/" not in name]


def _entries(response: VaultResponse | None) -> Mapping[str, Json]:
    entries = response.data.get("key_info") if response and response.data else None
    return entries if isinstance(entries, Mapping) else {}


def _tags_in(entry: Json) -> Mapping[str, str]:
    """Return the custom metadata of a secret."""
    metadata = entry.get("custom_metadata") if isinstance(entry, Mapping) else None
    if not isinstance(metadata, Mapping):
        return {}
    return {key: str(value) for key, value in metadata.items()}


def settle(
    expansion: Expansion[VaultObject],
    entries: Sequence[VaultObject],
    responses: Mapping[SourceRequest, VaultResponse | KeyferryError],
    call: MountCall,
    absent_objects: AbsentObjects,
) -> Expansion[VaultObject]:
    """Return the expansion without secrets that are listed, but deleted.

    Args:
        expansion: what was read.
        entries: of the SecretProviderClass.
        responses: of the vault.
        call: the mount.
        absent_objects: what the last refresh did not select any more.
    """
    if not any(each.is_selector for each in entries):
        return expansion
    present = expansion.without(
        lambda each: isinstance(responses[each.source_request], ObjectMissingError)
    )
    absent = _absent(entries, present.objects, call)
    return absent_objects.applied_to(present, absent, call.target_path)


def _absent(
    entries: Iterable[VaultObject], objects: Iterable[VaultObject], call: MountCall
) -> Iterator[MissingObject]:
    """Yield the objects in the volume that no entry names or selects any more.

    The ID of a secret is the path of its file, so that only an entry without `rewrite` can be
    recognized as the one that selected it.
    """
    seen = {each.id for each in objects}
    for entry in entries:
        if not entry.is_selector or entry.selection is None:
            continue
        prefix = f"{entry.vault}/" if entry.vault else ""
        for version in call.current_versions:
            path = version.id.removeprefix(prefix)
            if version.version == MISSING_VERSION or version.id in seen:
                continue
            if not version.id.startswith(prefix):
                continue
            if not entry.selection.rewrites and not entry.selection.matches_name(path):
                continue
            seen.add(version.id)
            yield not_selected(version.id, (path,), keeps=entry.options.keeps)
