"""How many requests HashiCorp Vault gets for objects with options."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from keyferry.content import MISSING_VERSION
from keyferry.errors import AccessDeniedError, KeyferryError, ObjectMissingError
from keyferry.resilience.fetcher import Fetcher
from keyferry.resilience.settings import ResilienceSettings
from tests.fakes.vault_api import VaultApi, running_vault
from tests.fakes.vault_mounts import FakePod, VaultMounts, entry, vault_mounts

PATH = "secret/data/app/db"
DOCUMENT = {"database": {"user": "shop", "password": "s3cret"}, "port": 5432}
JMES_PATH = [{"path": "database.password", "objectAlias": "extracted"}]
WHOLE = {"file": json.dumps(DOCUMENT).encode()}
OPTIONS: dict[str, tuple[dict[str, Any], dict[str, bytes]]] = {
    "plain": ({}, WHOLE),
    "optional": ({"optional": True}, WHOLE),
    "jmes-path": ({"jmesPath": JMES_PATH}, {**WHOLE, "extracted": b"s3cret"}),
    "expand-keys": (
        {"expandKeys": True},
        {"file/database": b'{"user":"shop","password":"s3cret"}', "file/port": b"5432"},
    ),
    "owner": ({"fileOwner": "999"}, WHOLE),
}


@pytest.fixture
async def vault() -> AsyncIterator[VaultApi]:
    async with running_vault() as running:
        running.add_role("app", accounts=["shop/web"], policy={"secret/data/app/*": {"read"}})
        running.write("secret", "app/db", {"document": json.dumps(DOCUMENT), "port": "5432"})
        yield running


@pytest.fixture
async def mounts(vault: VaultApi) -> AsyncIterator[VaultMounts]:
    fetcher = Fetcher(ResilienceSettings(refresh_interval=120.0))
    async with vault_mounts(vault, fetcher=fetcher) as made:
        yield made
    await fetcher.close()


def document(name: str = "file", path: str = PATH, **fields: Any) -> dict[str, Any]:
    return entry(name, path, secretKey="document", **fields)


async def test_pods_with_different_options_of_an_object_share_one_request(
    vault: VaultApi, mounts: VaultMounts
) -> None:
    """The options are applied to the response that was read."""
    found = await asyncio.gather(
        *(
            mounts.files(document(**fields), pod=FakePod(f"web-{number}"))
            for number, (fields, _) in enumerate(OPTIONS.values())
        )
    )
    assert [files for _, files in OPTIONS.values()] == found
    assert 1 == vault.request_count(PATH)


async def test_entries_of_one_secret_need_one_request(vault: VaultApi, mounts: VaultMounts) -> None:
    """Whatever their options are."""
    result = await mounts.mount(
        document("a", jmesPath=JMES_PATH),
        entry("b", PATH, secretKey="port", optional=True),
        entry("c", PATH, secretKey="nowhere", default="none"),
    )
    contents = {file.path: file.contents for file in result.files}
    assert {"a": WHOLE["file"], "extracted": b"s3cret", "b": b"5432", "c": b"none"} == contents
    assert ["c"] == [missing.id for missing in result.missing]
    assert MISSING_VERSION == {version.id: version.version for version in result.versions}["c"]
    assert 1 == vault.request_count(PATH)


async def test_missing_secret_is_requested_once_for_all_pods(
    vault: VaultApi, mounts: VaultMounts
) -> None:
    """Whether they may lack it or not."""
    path = "secret/data/app/none"
    optional = await mounts.mount(document("a", path, optional=True))
    assert () == optional.files
    with pytest.raises(ObjectMissingError):
        await mounts.mount(document("a", path), pod=FakePod("web-1"))
    default = await mounts.files(document("a", path, default="x"), pod=FakePod("web-2"))
    assert {"a": b"x"} == default
    assert 1 == vault.request_count(path)


async def test_refused_secret_is_not_missing(vault: VaultApi) -> None:
    """A policy, and each failure of the vault."""
    async with vault_mounts(vault) as mounts:
        await refusals(vault, mounts)


async def refusals(vault: VaultApi, mounts: VaultMounts) -> None:
    """Read what is refused, and what fails."""
    with pytest.raises(AccessDeniedError):
        await mounts.mount(document("a", "secret/data/other", optional=True))
    for number, status in enumerate((429, 500, 503)):
        vault.fault = (status, ["internal error"])
        with pytest.raises(KeyferryError) as caught:
            await mounts.mount(document("a", f"secret/data/app/{number}", optional=True))
        assert not isinstance(caught.value, ObjectMissingError)
