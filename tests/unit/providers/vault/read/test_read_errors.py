"""What a refused read is told with."""

from __future__ import annotations

import pytest

from keyferry.providers.vault.api_path import parse_api_path
from keyferry.providers.vault.auth.login import Login, PodInfo, TokenLogin
from keyferry.providers.vault.auth.login_errors import login_error
from keyferry.providers.vault.http.server import Address, Server
from keyferry.providers.vault.objects import ReadRequest
from keyferry.providers.vault.read.read_errors import SecretsEngine, read_error

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
def test_where_nothing_is_the_commands_that_show_what_is_there_are_whole(
    engine: SecretsEngine | None, path: str, look: str
) -> None:
    """They can be pasted: product, mount and folder are those of the path."""
    request = ReadRequest(parse_api_path(path))
    assert read_error(404, (), request, LOGIN, engine=engine).remedy.endswith(look)


def test_a_token_out_of_a_secret_that_is_refused_may_have_ended() -> None:
    """The vault says permission denied of both, so both are told."""
    error = read_error(
        403, ("permission denied",), ReadRequest(parse_api_path("a/b")), LOGIN, engine=None
    )
    assert "bao token lookup" in error.remedy
    assert 'path "a/b"' in error.remedy


def test_an_address_with_the_beginning_of_paths_is_told_at_the_login() -> None:
    """`/v1` is added to it, so it stands there twice."""
    assert "Remove /v1 from the end" in login_error(403, ("permission denied",), LOGIN).remedy
