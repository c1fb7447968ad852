"""Values inside of secrets of HashiCorp Vault and OpenBao become files."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from keyferry.errors import KeyferryError
from tests.fakes.vault_api import VaultApi, running_vault
from tests.fakes.vault_mounts import VaultMounts, entry, vault_mounts

PATH = "secret/data/app/db"
SECRET = {
    "user": "shop",
    "password": "canary-1",
    "port": 5432,
    "nested": {"a": [1, True]},
    "text": '{"inner": "canary-2"}',
    "yaml": "inner: canary-3\n",
    "encoded": "eyJpbm5lciI6ICJjYW5hcnktNCJ9",
}


def inner(path: str = "inner") -> list[dict[str, str]]:
    return [{"path": path, "objectAlias": "found"}]


@pytest.fixture
async def vault() -> AsyncIterator[VaultApi]:
    async with running_vault() as running:
        running.add_role("app", accounts=["shop/web"], policy={"secret/data/app/*": {"read"}})
        running.write("secret", "app/db", SECRET)
        yield running


@pytest.fixture
async def mounts(vault: VaultApi) -> AsyncIterator[VaultMounts]:
    async with vault_mounts(vault) as made:
        yield made


async def test_keys_of_a_secret_become_files(mounts: VaultMounts) -> None:
    """Without secretKey; texts stay texts, whatever they contain, and whatever `yaml` says."""
    expected = {
        "db/encoded": SECRET["encoded"],
        "db/nested": '{"a":[1,true]}',
        "db/password": "canary-1",
        "db/port": "5432",
        "db/text": SECRET["text"],
        "db/user": "shop",
        "db/yaml": SECRET["yaml"],
    }
    for fields in ({}, {"yaml": True}):
        found = await mounts.files(entry("db", PATH, expandKeys=True, **fields))
        assert expected == {path: content.decode() for path, content in found.items()}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"jmesPath": inner("nested.a[1]")}, "true"),
        ({"jmesPath": inner("join('@', [password, user])")}, "canary-1@shop"),
        ({"secretKey": "text", "jmesPath": inner()}, "canary-2"),
        ({"secretKey": "yaml", "yaml": True, "jmesPath": inner()}, "canary-3"),
        ({"secretKey": "encoded", "encoding": "base64", "jmesPath": inner()}, "canary-4"),
        ({"secretKey": "nested", "jmesPath": inner("a[0]")}, "1"),
        ({"secretKey": "/nested/a", "jmesPath": inner("[0]")}, "1"),
    ],
)
async def test_values_become_files(
    mounts: VaultMounts, fields: dict[str, Any], expected: str
) -> None:
    """In addition to the file of the object."""
    found = await mounts.files(entry("db", PATH, **fields))
    assert {"db", "found"} == set(found)
    assert expected == found["found"].decode()


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (
            {"jmesPath": inner("passwort")},
            "there is no key 'passwort'; the keys there are: encoded, nested, password, port,",
        ),
        (
            {"jmesPath": inner("text.inner")},
            "'inner' is a key, and the value there is a text",
        ),
        ({"secretKey": "user", "expandKeys": True}, "object db: the value is not JSON"),
        ({"secretKey": "port", "expandKeys": True}, "the value is a number in JSON"),
    ],
)
async def test_what_does_not_exist_is_explained(
    mounts: VaultMounts, fields: dict[str, Any], expected: str
) -> None:
    """Without a value."""
    with pytest.raises(KeyferryError) as caught:
        await mounts.mount(entry("db", PATH, **fields))
    assert expected in str(caught.value)
    assert "canary" not in str(caught.value)


async def test_two_files_with_one_path_are_refused(vault: VaultApi, mounts: VaultMounts) -> None:
    """Before any request if the paths are known, else when they are."""
    paths = [{"path": "user", "objectAlias": "other"}]
    with pytest.raises(KeyferryError, match="two files have the path 'other'"):
        await mounts.mount(entry("db", PATH, jmesPath=paths), entry("other", PATH))
    assert 0 == vault.request_count(PATH)
    with pytest.raises(KeyferryError, match="two files have the path 'db/user'"):
        await mounts.mount(entry("db", PATH, expandKeys=True), entry("db/user", PATH))
