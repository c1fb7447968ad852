"""Secrets of a folder that entries select."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pytest

from keyferry.content import ObjectVersion
from keyferry.errors import AccessDeniedError, ClassInvalidError, KeyferryError, ObjectMissingError
from keyferry.providers.api import MountCall
from keyferry.providers.sources.selected import AbsentObjects
from keyferry.providers.vault.http.response import VaultResponse, parse_response
from keyferry.providers.vault.objects import ReadRequest, VaultObject, parse_objects
from keyferry.providers.vault.product import OPENBAO, VAULT, Product
from keyferry.providers.vault.read.expansion import expand, settle

LISTED = b'{"data": {"keys": ["a", "b", "nested/"]}}'
DETAILED = (
    b'{"data": {"keys": ["a", "b"], "key_info": {"a": {"custom_metadata": {"env": "prod"}},'
    b' "b": {"custom_metadata": null}}}}'
)


class FakeVault:
    """Responds with texts by API path; other paths do not exist."""

    host = "vault:8200"

    def __init__(self, responses: Mapping[str, bytes | KeyferryError]) -> None:
        self._responses = responses
        self.requests: list[str] = []

    async def read_all(
        self, requests: Iterable[ReadRequest]
    ) -> Mapping[ReadRequest, VaultResponse | KeyferryError]:
        return {request: self._read(request) for request in requests}

    def _read(self, request: ReadRequest) -> VaultResponse | KeyferryError:
        self.requests.append(request.path.path)
        found = self._responses.get(request.path.path, ObjectMissingError("none", ""))
        return found if isinstance(found, KeyferryError) else parse_response(found)


async def select(
    vault: FakeVault, path: str, product: Product = VAULT, *, tags: str = "{}", rest: str = ""
) -> tuple[VaultObject, ...]:
    """Return the objects that an entry selects."""
    text = f"- {{find: {{path: {path}, name: {{regexp: .}}, tags: {tags}}}{rest}}}"
    return (await expand(parse_objects(text, product=product), [vault], product)).objects


@pytest.mark.parametrize(
    "path", ["secret/data/shop", "secret/metadata/shop", "/v1/secret/data/shop/"]
)
async def test_folder_of_kv_version_2(path: str) -> None:
    """Its path is written like that of a secret, or like that of a list. Folders are skipped."""
    vault = FakeVault({"secret/metadata/shop": LISTED})
    found = await select(vault, path)
    assert [("a", "secret/data/shop/a"), ("b", "secret/data/shop/b")] == [
        (each.name, each.request.path.path) for each in found
    ]
    assert ["secret/metadata/shop"] == vault.requests


async def test_top_level_of_kv_version_2() -> None:
    """The path ends with `data`."""
    vault = FakeVault({"secret/metadata": LISTED})
    assert ["secret/data/a", "secret/data/b"] == [
        each.request.path.path for each in await select(vault, "secret/data")
    ]


async def test_folder_of_kv_version_1() -> None:
    """Secrets are read where they are listed."""
    vault = FakeVault({"kv/shop": LISTED})
    found = await select(vault, "kv/shop", rest=", secretKey: value")
    assert ["kv/shop/a", "kv/shop/b"] == [each.request.path.path for each in found]
    assert {"value"} == {each.key for each in found}


async def test_openbao_lists_tags() -> None:
    """One request."""
    vault = FakeVault({"secret/detailed-metadata/shop": DETAILED})
    found = await select(vault, "secret/data/shop", OPENBAO, tags="{env: prod}")
    assert ["a"] == [each.name for each in found]
    assert 1 == len(vault.requests)


async def test_vault_reads_tags_individually() -> None:
    """One request for each secret whose name matches."""
    metadata = b'{"data": {"custom_metadata": {"env": "prod"}}}'
    vault = FakeVault({"secret/metadata/shop": LISTED, "secret/metadata/shop/b": metadata})
    found = await select(vault, "secret/data/shop", tags="{env: prod}")
    assert ["b"] == [each.name for each in found]
    assert 3 == len(vault.requests)


async def test_empty_folder_selects_nothing() -> None:
    """A vault responds as for a folder that does not exist."""
    with pytest.raises(ObjectMissingError, match="matches no object in secret/data/shop of vault"):
        await select(FakeVault({}), "secret/data/shop")


async def test_list_that_is_not_permitted() -> None:
    """The error of the list is that of the mount."""
    with pytest.raises(AccessDeniedError):
        await select(FakeVault({"kv/shop": AccessDeniedError("no", "grant")}), "kv/shop")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("- {find: {name: {regexp: a}}}", "find.path is missing"),
        ("- {find: {path: 'a?b=c', name: {regexp: a}}}", "find.path has a query"),
        ("- {find: {path: kv/shop, tags: {a: b}}}", "find.path is not a path of KV version 2"),
        ("- {secretPath: x, find: {path: a, tags: {a: b}}}", "find and secretPath are both set"),
    ],
)
def test_mistakes(text: str, problem: str) -> None:
    """The message names the entry."""
    with pytest.raises(ClassInvalidError, match=problem) as caught:
        parse_objects(text)
    assert "the entry at index 0" in caught.value.problem


async def test_deleted_secret_is_removed_with_the_second_refresh() -> None:
    """It is listed, but cannot be read. A process that was restarted keeps it at first."""
    entries = parse_objects("- {find: {path: secret/data/shop, name: {regexp: .}}}")
    vault = FakeVault({"secret/metadata/shop": LISTED, "secret/data/shop/a": b'{"data": {}}'})
    call = MountCall(
        {}, target_path="/v", current_versions=(ObjectVersion("a", "1"), ObjectVersion("b", "1"))
    )
    absent_objects = AbsentObjects()
    kept = []
    for restarts in (False, False, True):
        absent_objects = AbsentObjects() if restarts else absent_objects
        expansion = await expand(entries, [vault], VAULT)
        requests = [each.request for each in expansion.objects]
        read = await vault.read_all(requests)
        responses = {(0, request): response for request, response in read.items()}
        expansion = settle(expansion, entries, responses, call, absent_objects)
        assert ["a"] == [each.name for each in expansion.objects]
        kept.append([each.id for each in expansion.missing])
        absent_objects.record(call, expansion.absent)
    assert [["b"], [], ["b"]] == kept
