"""keyferry.providers.azure.files: the files of a class, told without a mount."""

from __future__ import annotations

import json

import pytest

from keyferry.errors import ClassInvalidError
from keyferry.providers.api import NamedFile
from keyferry.providers.azure.files import named_files


def files(**fields: str | int) -> tuple[NamedFile, ...]:
    """The files of one entry for `web`."""
    entry = json.dumps({"objectName": "web"} | fields)
    return named_files({"objects": json.dumps({"array": [entry]})})


def test_a_key_is_one_file() -> None:
    """Its path, its own name, and how a person calls it."""
    expected = (NamedFile("keys/web", frozenset({"web"}), "key web"),)
    assert expected == files(objectType="key", objectAlias="keys/web")


def test_a_secret_may_come_in_three_files() -> None:
    """Whether it does, only the vault knows: it must belong to a certificate."""
    assert (
        NamedFile("tls.crt", frozenset({"web.crt"}), ".crt of secret web"),
        NamedFile("tls.key", frozenset({"web.key"}), ".key of secret web"),
        NamedFile("tls", frozenset({"web"}), "secret web"),
    ) == files(objectType="secret", objectAlias="tls")


def test_a_history_is_a_folder_whose_newest_file_has_the_names_of_the_object() -> None:
    """The others are called by their number."""
    found = files(objectType="cert", objectAlias="a", objectVersionHistory=2)
    assert (
        NamedFile("a/0", frozenset({"web", "a", "web/0"}), "cert web, version 0 of its history"),
        NamedFile("a/1", frozenset({"web/1"}), "cert web, version 1 of its history"),
    ) == found


def test_naming_files_fails_as_the_mount_would() -> None:
    """The same checks, the same words."""
    with pytest.raises(ClassInvalidError, match="failed to yaml unmarshal objects"):
        named_files({"objects": "invalid"})
