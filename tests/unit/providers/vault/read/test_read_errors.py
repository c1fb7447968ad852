"""Read errors: causes and remedies."""

from __future__ import annotations

import pytest

from keyferry.providers.vault.api_path import parse_api_path
from keyferry.providers.vault.auth.login import Login, PodInfo, TokenLogin
from keyferry.providers.vault.auth.login_errors import login_error
from keyferry.providers.vault.http.server import Address, Server
from keyferry.providers.vault.objects import ReadRequest
from keyferry.providers.vault.read.read_errors import Deletion, SecretsEngine, read_error

LOGIN = Login(Server(Address("https://v/v1"), command="bao"), "token", TokenLogin("x"), PodInfo())


@pytest.mark.parametrize(
    ("engine", "path", "look"),
    [
        (
            SecretsEngine("team/kv", "kv", 2),
            "team/kv/data/a/b",
            "bao kv list -mount=team/kv a, bao kv metadata get -mount=team/kv a/b.",
        ),
        (SecretsEngine("kv", "kv", 1), "kv/b", "bao kv list -mount=kv /."),
        (None, "kv/b", "bao list, bao kv metadata get."),
    ],
)
def test_missing_secret_has_complete_commands_to_inspect_the_folder(
    engine: SecretsEngine | None, path: str, look: str
) -> None:
    """They contain the product, mount and folder of the path."""
    request = ReadRequest(parse_api_path(path))
    assert read_error(404, (), request, LOGIN, engine=engine).remedy.endswith(look)


def test_denied_read_with_a_token_suggests_to_check_the_token() -> None:
    """The vault reports a missing permission and an expired token in the same way."""
    error = read_error(
        403, ("permission denied",), ReadRequest(parse_api_path("a/b")), LOGIN, engine=None
    )
    assert "bao token lookup" in error.remedy
    assert 'path "a/b"' in error.remedy


@pytest.mark.parametrize(
    ("deletion", "problem", "remedy"),
    [
        (
            Deletion("3", "2026-01-02T00:00:00Z", destroyed=False),
            "version 3 of the secret at kv/data/a/b was deleted at 2026-01-02T00:00:00Z in ",
            "Restore it: bao kv undelete -mount=kv -versions=3 a/b; or write a new version.",
        ),
        (
            Deletion("3", "2026-01-02T00:00:00Z", destroyed=True),
            "version 3 of the secret at kv/data/a/b was destroyed in ",
            "Write a new version.",
        ),
    ],
)
def test_deleted_version_is_named(deletion: Deletion, problem: str, remedy: str) -> None:
    """The response of KV version 2 says which version it was, and when."""
    request = ReadRequest(parse_api_path("kv/data/a/b"))
    error = read_error(404, (), request, LOGIN, engine=None, deletion=deletion)
    assert error.problem.startswith(problem)
    assert error.remedy == remedy


def test_blanks_around_a_path_are_named() -> None:
    """The vault has no such path."""
    request = ReadRequest(parse_api_path(" kv/data/a "))
    error = read_error(403, ("permission denied",), request, LOGIN, engine=None)
    assert error.remedy == "Remove the blanks around secretPath: ' kv/data/a '."


def test_login_error_suggests_to_remove_v1_from_the_address() -> None:
    """The request path would contain `/v1` twice."""
    assert "Remove /v1 from the end" in login_error(403, ("permission denied",), LOGIN).remedy


@pytest.mark.parametrize("path", ["secret/metadata/shop", "secret/detailed-metadata/shop"])
def test_denied_list_names_the_permission_to_list(path: str) -> None:
    """OpenBao lists a folder with tags at a path of its own."""
    request, engine = (
        ReadRequest(parse_api_path(f"{path}?list=true")),
        SecretsEngine("secret", "kv", 2),
    )
    error = read_error(403, ("permission denied",), request, LOGIN, engine=engine)
    assert f'path "{path}" {{ capabilities = ["list"] }}' in error.remedy
    assert f"to list {path} (403" in error.problem


def test_errors_of_lists_name_the_field_of_the_folder() -> None:
    """Entries with `find` have no `secretPath`."""
    request, engine = (
        ReadRequest(parse_api_path("secret/a?list=true")),
        SecretsEngine("secret", "kv", 2),
    )
    error = read_error(404, (), request, LOGIN, engine=engine)
    assert error.remedy == "Set find.path to secret/data/a."
