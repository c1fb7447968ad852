"""keyferry.providers.azure.objects: the files that a mount may produce."""

from __future__ import annotations

import json

import pytest

from keyferry.content import NamedFile
from keyferry.errors import ClassInvalidError
from keyferry.providers.azure.objects import named_files


def files(**fields: str | int) -> tuple[NamedFile, ...]:
    """The files of one entry for `web`."""
    entry = json.dumps({"objectName": "web"} | fields)
    return named_files({"objects": json.dumps({"array": [entry]})})


def test_key_is_one_file() -> None:
    """Its path, its name and its description."""
    expected = (NamedFile("keys/web", frozenset({"web"}), "key web"),)
    assert expected == files(objectType="key", objectAlias="keys/web")


def test_secret_may_have_three_files() -> None:
    """It has if it belongs to a certificate."""
    assert (
        NamedFile("tls.crt", frozenset({"web.crt"}), ".crt of secret web"),
        NamedFile("tls.key", frozenset({"web.key"}), ".key of secret web"),
        NamedFile("tls", frozenset({"web"}), "secret web"),
    ) == files(objectType="secret", objectAlias="tls")


def test_newest_file_of_a_history_has_the_names_of_the_object() -> None:
    """The other files are named by their index."""
    found = files(objectType="cert", objectAlias="a", objectVersionHistory=2)
    assert (
        NamedFile("a/0", frozenset({"web", "a", "web/0"}), "cert web, version 0 of its history"),
        NamedFile("a/1", frozenset({"web/1"}), "cert web, version 1 of its history"),
    ) == found


def test_named_files_raise_the_errors_of_a_mount() -> None:
    """Same checks, same texts."""
    with pytest.raises(ClassInvalidError, match="failed to yaml unmarshal objects"):
        named_files({"objects": "invalid"})
