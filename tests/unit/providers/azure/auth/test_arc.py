"""Arc: the challenge of the Azure Arc agent, answered from one folder only."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from keyferry.errors import IdentityError
from keyferry.providers.azure.auth.access_token import TokenRefusedError, TokenResponse
from keyferry.providers.azure.auth.machine import challenge_key_path, read_challenge_key


def challenge(header: str) -> TokenResponse:
    """A 401 of the agent."""
    return TokenResponse(401, {"WWW-Authenticate": header}, b"")


@pytest.mark.parametrize("header", ["Basic realm=/a/b.key", 'Basic realm="/a/b.key"'])
def test_the_challenge_names_a_file(header: str) -> None:
    """With or without quotes."""
    assert challenge_key_path(challenge(header)) == "/a/b.key"


@pytest.mark.parametrize("header", ["", "Bearer x", "Basic realm=/etc/shadow", "Basic realm="])
def test_a_challenge_without_a_key_file_is_a_refusal(header: str) -> None:
    """No file is read."""
    with pytest.raises(TokenRefusedError):
        challenge_key_path(challenge(header))


def test_challenge_key_is_read(tmp_path: Path) -> None:
    """Its content solves the challenge of the agent."""
    (tmp_path / "x.key").write_text("abc\n")
    assert read_challenge_key(str(tmp_path / "x.key"), tmp_path) == "abc"


@pytest.mark.parametrize("path", ["/etc/x.key", "{folder}/../x.key", "{folder}/a/x.key", "x.key"])
def test_file_outside_of_the_agents_folder_is_not_read(tmp_path: Path, path: str) -> None:
    """Another program on the agent's port could name any file."""
    with pytest.raises(IdentityError, match="names a challenge file outside of"):
        read_challenge_key(path.replace("{folder}", str(tmp_path)), tmp_path)


def test_only_a_small_regular_file_is_read(tmp_path: Path) -> None:
    """Not a symbolic link, a named pipe, a large file or a missing file."""
    (tmp_path / "target.key").write_text("abc")
    (tmp_path / "link.key").symlink_to(tmp_path / "target.key")
    os.mkfifo(tmp_path / "pipe.key")
    (tmp_path / "big.key").write_bytes(bytes(4097))
    for name in ("link.key", "pipe.key", "big.key", "missing.key"):
        with pytest.raises(IdentityError, match="cannot be read") as caught:
            read_challenge_key(str(tmp_path / name), tmp_path)
        assert "group himds" in caught.value.remedy
