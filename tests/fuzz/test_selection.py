"""Objects that `find` selects, whatever its fields and the list of the vault are."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from hypothesis import event, example, given
from hypothesis import strategies as st

from keyferry.errors import ClassInvalidError, KeyferryError, ObjectMissingError
from keyferry.formats.volume_paths import path_conflict, path_problem
from keyferry.providers.azure.find.expansion import expand, selected_names
from keyferry.providers.azure.objects import KeyVaultObject, ObjectType, parse_objects
from keyferry.providers.azure.responses import ListedObject, Properties
from keyferry.providers.vault.http.response import VaultResponse
from keyferry.providers.vault.objects import ReadRequest
from keyferry.providers.vault.objects import parse_objects as parse_vault_objects
from keyferry.providers.vault.product import OPENBAO, VAULT, Product
from keyferry.providers.vault.read.expansion import expand as expand_folders
from keyferry.rendering.selection import MAX_OBJECTS, MAX_PATTERN, choose
from tests.fuzz.messages import check_message

PIECES = st.sampled_from([
    "a", "b", "-", ".", "^", "$", "*", "+", "?", "|", "(", ")", "[", "]", "[^", "{9}", "{1000}",
    "(?i)", "(?P<x>", "(?:", "(?=", "\\1", "\\d", "\\pL", "\\C", "\\", "é", "\u202e", "\n", "\x00",
    "\ud800",
])  # fmt: skip
PATTERNS = st.lists(PIECES, min_size=1, max_size=8).map("".join) | st.text(max_size=12)
TARGETS = st.lists(
    st.sampled_from(["a", "/", "..", ".", "$1", "${x}", "${", "$$", "$", "$999999", "\x00", "é"]),
    max_size=6,
).map("".join)
USUAL_STEPS = [{"regexp": {"source": "[^a-z]+", "target": "x"}}]
STEPS = st.just(USUAL_STEPS) | st.lists(
    st.fixed_dictionaries({"source": PATTERNS, "target": TARGETS}).map(
        lambda step: {"regexp": step}
    ),
    max_size=4,
)
TAGS = st.dictionaries(st.sampled_from(["env", "a", "", "\x00"]), st.text(max_size=3), max_size=2)
FINDS = st.fixed_dictionaries(
    {},
    optional={
        "name": st.fixed_dictionaries({"regexp": PATTERNS}),
        "tags": TAGS,
        "path": st.just("secret/data/shop"),
    },
)
EVERYTHING: dict[str, Any] = {"objectType": "secret", "find": {"name": {"regexp": ".*"}}}
ENTRIES = st.just({**EVERYTHING, "rewrite": USUAL_STEPS}) | st.fixed_dictionaries(
    {"objectType": st.just("secret"), "find": FINDS},
    optional={"rewrite": STEPS, "maxObjects": st.sampled_from(["1", "3", "1000", "0", "x"])},
)
NAMES = st.sampled_from(
    ["a", "b", "a-b", "..", "../x", "/etc/passwd", "a/b", "", "a" * 300, "\x00", "é", "..data",
     "\ud800", "a\nb", ".", "a/../b"]
) | st.text(max_size=6)  # fmt: skip
TIMES = st.sampled_from([None, 0, 10, 2**40, -1])
LISTED = st.builds(
    ListedObject,
    name=NAMES | st.from_regex(r"[-a-z]{1,5}", fullmatch=True),
    enabled=st.sampled_from([True, True, True, False]),
    managed=st.sampled_from([False, False, False, True]),
    properties=st.builds(Properties, expires_at=TIMES, not_before=TIMES, tags=TAGS),
)
NOW = 5.0


def parsed(entry: dict[str, Any]) -> KeyVaultObject | None:
    """The entry, or None if it is refused with a message as it should be."""
    try:
        (found,) = parse_objects(json.dumps({"array": [json.dumps(entry)]}))
    except ClassInvalidError as error:
        check_message(error)
        return None
    return found


@given(ENTRIES, st.lists(LISTED, max_size=12))
@example(EVERYTHING, [ListedObject("../x", enabled=True, managed=False, properties=Properties())])
def test_any_selection_is_made_or_refused(
    entry: dict[str, Any], listed: list[ListedObject]
) -> None:
    """Each file has a path of its own in the volume; only usable objects are selected."""
    found = parsed(entry)
    if found is None or found.selection is None:
        return
    names = selected_names(found.selection, listed, NOW)
    usable = {each.name for each in listed if each.is_usable(NOW) and not each.managed}
    assert set(names) <= usable
    try:
        chosen = choose(found.selection, names, place="vault contoso.vault.azure.net")
    except (ClassInvalidError, ObjectMissingError) as error:
        check_message(error)
        event(type(error).__name__)
        return
    event("chosen")
    assert set(names) == {name for name, _ in chosen}
    assert len(chosen) <= min(found.selection.max_objects, MAX_OBJECTS)
    paths = [path for _, path in chosen]
    assert len(paths) == len(set(paths))
    assert all(path_problem(path) is None for path in paths)


class Vault:
    """A vault whose lists contain anything."""

    host = "contoso.vault.azure.net"

    def __init__(self, listed: list[ListedObject]) -> None:
        self._listed = tuple(listed)
        self.lists = 0

    async def list_objects(self, type_: ObjectType) -> tuple[ListedObject, ...]:
        del type_
        self.lists += 1
        return self._listed

    def wall_time(self) -> float:
        return NOW


def is_azure_name(listed: ListedObject) -> bool:
    """Whether the parser of lists accepts a name, which becomes part of messages."""
    return listed.name.isascii() and listed.name.replace("-", "").isalnum()


@given(st.lists(ENTRIES, max_size=3), st.lists(LISTED.filter(is_azure_name), max_size=12))
async def test_entries_share_one_list_and_no_path(
    entries: list[dict[str, Any]], listed: list[ListedObject]
) -> None:
    """Also the separate files of two entries have paths of their own."""
    objects = [found for entry in entries if (found := parsed(entry)) is not None]
    vault = Vault(listed)
    try:
        expansion = await expand(objects, [vault])
    except KeyferryError as error:
        check_message(error)
        return
    assert vault.lists <= 1
    assert path_conflict(path for each in expansion.objects for path in each.file_paths) is None


@given(PATTERNS, TARGETS, st.sampled_from(["a", "ab" * 500, "-" * 999]))
@example("a*", "$1" * 100, "a" * 900)
@example("", "x" * MAX_PATTERN, "y" * MAX_PATTERN)
def test_rewrites_end(source: str, target: str, name: str) -> None:
    """A step may make a name longer, but not without limit."""
    steps = [{"regexp": {"source": source, "target": target}}] * 20
    found = parsed({**EVERYTHING, "rewrite": steps})
    if found is None or found.selection is None:
        return
    assert len(found.selection.path_for(name)) <= (MAX_PATTERN + 1) * (MAX_PATTERN + 1)


# --- Vault and OpenBao ----------------------------------------------------------------------------

JUNK = st.none() | st.booleans() | st.integers() | NAMES
DOCUMENTS = st.recursive(
    JUNK,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)
LISTS = st.none() | st.fixed_dictionaries(
    {},
    optional={
        "keys": st.lists(NAMES, max_size=8) | st.lists(DOCUMENTS, max_size=4) | DOCUMENTS,
        "key_info": st.dictionaries(NAMES, st.just({"custom_metadata": {"env": "a"}}))
        | st.dictionaries(NAMES, DOCUMENTS, max_size=4)
        | DOCUMENTS,
        "custom_metadata": TAGS | DOCUMENTS,
    },
)
VAULT_ENTRIES = st.fixed_dictionaries(
    {
        "find": st.fixed_dictionaries(
            {"path": st.sampled_from(["secret/data/shop", "kv/shop", "secret/data", "/"])},
            optional={
                "name": st.just({"regexp": ".*"}) | st.fixed_dictionaries({"regexp": PATTERNS}),
                "tags": st.just({"env": "a"}) | TAGS,
            },
        )
    },
    optional={"rewrite": STEPS, "secretKey": st.just("password"), "optional": st.just("true")},
)


ANY_SECRET: dict[str, Any] = {
    "find": {"path": "kv/shop", "name": {"regexp": ".*"}},
    "rewrite": [{"regexp": {"source": ".*/", "target": ""}}],
}


class Reader:
    """A vault that answers each request with one document, or as if nothing were there."""

    host = "vault.example"

    def __init__(self, answer: Mapping[str, Any] | None) -> None:
        self._answer = answer

    async def read_all(
        self, requests: Iterable[ReadRequest]
    ) -> Mapping[ReadRequest, VaultResponse | KeyferryError]:
        missing = ObjectMissingError("it does not exist", "")
        answer = missing if self._answer is None else VaultResponse(data=self._answer)
        return dict.fromkeys(requests, answer)


@given(st.lists(VAULT_ENTRIES, min_size=1, max_size=2), LISTS, st.sampled_from([VAULT, OPENBAO]))
@example([ANY_SECRET], {"keys": ["a/../b", "../c", "d"]}, VAULT)
@example([ANY_SECRET], {"keys": ["\ud800"]}, OPENBAO)
async def test_any_list_of_a_folder_is_selected_from_or_refused(
    entries: list[dict[str, Any]], answer: dict[str, Any] | None, product: Product
) -> None:
    """No name in it leads out of the folder or of the volume."""
    try:
        objects = parse_vault_objects(json.dumps(entries), product=product)
        expansion = await expand_folders(objects, [Reader(answer)], product)
    except KeyferryError as error:
        check_message(error)
        return
    event("selected" if expansion.objects else "nothing")
    paths = [path for each in expansion.objects for path in each.file_paths]
    assert path_conflict(paths) is None
    assert all(path_problem(path) is None for path in paths)
    for each in expansion.objects:
        assert each.selection is not None
        _, request = each.source_request
        folder, _, name = request.path.path.rpartition("/")
        assert each.selection.folder == folder
        assert name not in {"", ".", ".."}
