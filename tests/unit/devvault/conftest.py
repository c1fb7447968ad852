"""Fixtures of the development vault's unit tests."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from keyferry_devvault.storage.data import DevVaultData
from keyferry_devvault.storage.signing_keys import SigningKeyName
from tests.unit.devvault.calls import NOW


@pytest.fixture(scope="session")
def with_keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a development vault that has its keys, which take a while to make."""
    folder = tmp_path_factory.mktemp("with-keys")
    with DevVaultData(folder) as data:
        for name in SigningKeyName:
            data.signing_keys.private_key(name)
    return folder


@pytest.fixture
def dev(tmp_path: Path, with_keys: Path) -> Iterator[DevVaultData]:
    """An empty development vault with a fixed clock."""
    shutil.copytree(with_keys, tmp_path / "dev")
    with DevVaultData(tmp_path / "dev", wall_time=lambda: NOW) as data:
        yield data
