"""keyferry.providers.azure against the development vault: values inside of secrets become files."""

from __future__ import annotations

import json
from typing import Any

import pytest

from keyferry.content import FileOwner, SecretFile
from keyferry.errors import ClassInvalidError, KeyferryError
from keyferry.providers.azure.provider import AzureProvider
from tests.fakes.azure_mounts import call, entry
from tests.fakes.devvault import DevVault
from tests.integration.azure.calls import MI, VM

DOCUMENT = '{"user": "shop", "password": "canary-1", "port": 1.10}'
PASSWORD = {"path": "password", "objectAlias": "password"}


async def contents(provider: AzureProvider, *entries: str) -> dict[str, bytes]:
    """Mount, and return the content of each file."""
    result = await provider.mount(call(VM, *entries))
    return {file.path: file.contents for file in result.files}


async def failure(provider: AzureProvider, *entries: str) -> str:
    """Return the message of a failed mount, which has no value."""
    with pytest.raises(KeyferryError) as caught:
        await provider.mount(call(VM, *entries))
    assert "canary" not in str(caught.value)
    return str(caught.value)


async def test_each_file_has_a_mode_and_an_owner(vault: DevVault, provider: AzureProvider) -> None:
    """Its own, else that of the object. The object has one version, whatever is made from it."""
    vault.set_secret("contoso", "document", DOCUMENT)
    port = {"path": "port", "objectAlias": "a/port", "filePermission": "0400", "fileOwner": "7:8"}
    paths = entry(
        "document", filePermission="0640", fileOwner="5", jmesPath=[PASSWORD, port], expandKeys=True
    )
    result = await provider.mount(call(VM, paths))
    owner = FileOwner(5)
    assert (
        SecretFile("password", 0o640, b"canary-1", owner),
        SecretFile("a/port", 0o400, b"1.10", FileOwner(7, 8)),
        SecretFile("document/user", 0o640, b"shop", owner),
        SecretFile("document/password", 0o640, b"canary-1", owner),
        SecretFile("document/port", 0o640, b"1.10", owner),
    ) == result.files
    assert ["secret/document"] == [version.id for version in result.versions]


@pytest.mark.parametrize(
    ("content_type", "fields"),
    [
        ("application/yaml", {}),
        ("text/x-yaml; charset=utf-8", {}),
        ("", {"yaml": True}),
        ("application/json", {"yaml": True}),
    ],
)
async def test_yaml_is_read_if_the_entry_or_the_vault_says_so(
    vault: DevVault, provider: AzureProvider, content_type: str, fields: dict[str, Any]
) -> None:
    """It is never guessed."""
    vault.set_secret("contoso", "document", "password: canary-1\n", content_type=content_type)
    found = await contents(provider, entry("document", jmesPath=[PASSWORD], **fields))
    assert b"canary-1" == found["password"]


async def test_yaml_is_not_guessed(vault: DevVault, provider: AzureProvider) -> None:
    """The message names the option."""
    vault.set_secret("contoso", "document", "password: canary-1\n")
    message = await failure(provider, entry("document", jmesPath=[PASSWORD]))
    assert "secret document: the value is not JSON: syntax error (line 1, column 1" in message
    assert "If it is YAML, set yaml: true." in message


async def test_a_default_that_cannot_be_read_is_named(
    vault: DevVault, provider: AzureProvider
) -> None:
    """It is in the SecretProviderClass, and not in the vault."""
    message = await failure(provider, entry("nowhere", default="{", jmesPath=[PASSWORD]))
    assert "default of secret nowhere: the value is not JSON" in message


async def test_an_encoded_document_is_decoded_before(
    vault: DevVault, provider: AzureProvider
) -> None:
    """By objectEncoding."""
    vault.set_secret("contoso", "document", DOCUMENT.encode().hex())
    found = await contents(provider, entry("document", jmesPath=[PASSWORD], objectEncoding="hex"))
    assert {"document": DOCUMENT.encode(), "password": b"canary-1"} == found


async def test_defaults_of_missing_documents_have_the_files(
    vault: DevVault, provider: AzureProvider
) -> None:
    """With a history, those of its newest version."""
    vault.grant("contoso", MI, "get", "list")
    fields = {"jmesPath": [PASSWORD], "default": '{"password": "x"}'}
    found = await contents(
        provider,
        entry("a", **fields),
        entry(
            "b", objectVersionHistory=2, **fields | {"jmesPath": [PASSWORD | {"objectAlias": "b2"}]}
        ),
    )
    assert {"a", "password", "b/0", "b2/0"} == set(found)
    assert b"x" == found["b2/0"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"jmesPath": [PASSWORD | {"objectAlias": "other"}]}, "other"),
        ({"jmesPath": [PASSWORD | {"objectAlias": "other/password"}]}, "other"),
        ({"jmesPath": [PASSWORD, PASSWORD]}, "password"),
        ({"jmesPath": [PASSWORD | {"objectAlias": "document"}]}, "document"),
    ],
)
async def test_two_files_with_one_path_are_refused_before_any_request(
    vault: DevVault, provider: AzureProvider, fields: dict[str, Any], message: str
) -> None:
    """Of one object, or of two."""
    assert message in await failure(provider, entry("document", **fields), entry("other"))
    assert [] == vault.requests


@pytest.mark.parametrize("alias", ["document/user", "document/user/a"])
async def test_two_files_with_one_path_are_refused_when_the_keys_are_known(
    vault: DevVault, provider: AzureProvider, alias: str
) -> None:
    """Those of expandKeys."""
    vault.set_secret("contoso", "document", DOCUMENT)
    fields = {"expandKeys": True, "jmesPath": [PASSWORD | {"objectAlias": alias}]}
    with pytest.raises(
        ClassInvalidError, match="jmesPath or expandKeys makes one of them"
    ) as caught:
        await provider.mount(call(VM, entry("document", **fields)))
    assert "document/user" in str(caught.value)


async def test_every_broken_document_is_named(vault: DevVault, provider: AzureProvider) -> None:
    """One mount shows what is wrong with each of them."""
    vault.set_secret("contoso", "a", DOCUMENT)
    vault.set_secret("contoso", "b", "canary-2")
    wrong = [{"path": "pasword", "objectAlias": "x"}]
    message = await failure(provider, entry("a", jmesPath=wrong), entry("b", expandKeys=True))
    assert "there is no key 'pasword'; the keys there are: user, password, port" in message
    assert "secret b" in message


@pytest.mark.parametrize("kind", ["key", "cert"])
async def test_keys_and_certificates_are_refused(provider: AzureProvider, kind: str) -> None:
    """They are PEM."""
    message = await failure(
        provider, json.dumps({"objectName": "a", "objectType": kind, "expandKeys": True})
    )
    assert "expandKeys only supported for objectType: secret" in message


async def test_files_are_limited(vault: DevVault, provider: AzureProvider) -> None:
    """However small the value is from which they are made."""
    value = json.dumps({"text": "x" * 20_000})
    vault.set_secret("contoso", "document", value)
    paths = [{"path": "text", "objectAlias": f"t{number}"} for number in range(100)]
    many = [
        entry(
            "document",
            objectAlias=f"d{copy}",
            jmesPath=[each | {"objectAlias": f"{copy}/{each['objectAlias']}"} for each in paths],
        )
        for copy in range(3)
    ]
    message = await failure(provider, *many)
    assert "--max-call-recv-msg-size" in message
