"""keyferry.plugins.providers: what is remembered of a SecretProviderClass."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from keyferry.content import NamedFile
from keyferry.errors import AuthorError
from keyferry.plugins.providers import Providers
from keyferry.providers.host import ProviderHost


class CountingHost(ProviderHost):
    """Counts how often the provider worker would be called."""

    def __init__(self) -> None:
        super().__init__({})
        self.calls = 0

    async def named_files(self, name: str, parameters: Mapping[str, str]) -> tuple[NamedFile, ...]:
        self.calls += 1
        return await super().named_files(name, parameters)


def objects(name: str, *, comment: str = "") -> dict[str, str]:
    return {"objects": json.dumps({"array": [f"objectName: {name}\nobjectType: secret"]}) + comment}


@pytest.fixture
def host() -> CountingHost:
    return CountingHost()


@pytest.fixture
def providers(host: CountingHost) -> Providers:
    return Providers(built_in=host, socket_folders=(), max_receive_bytes=1 << 20)


async def test_files_of_a_class_are_asked_for_once(
    providers: Providers, host: CountingHost
) -> None:
    """Each refresh needs them, and a call of the provider worker costs as much as a file."""
    found = [await providers.named_files("azure", objects("a")) for _ in range(3)]
    assert ["a"] * 3 == [min(file.path for file in files) for files in found]
    assert 1 == host.calls


async def test_changed_class_has_other_files(providers: Providers, host: CountingHost) -> None:
    """The key is what decides: the provider and its parameters."""
    for name in ("a", "b", "a"):
        files = await providers.named_files("azure", objects(name))
        assert name == min(file.path for file in files)
    await providers.named_files("external", objects("a"))
    assert 3 == host.calls


async def test_large_class_is_not_remembered(providers: Providers, host: CountingHost) -> None:
    """A tenant that edits it again and again would fill the memory of the driver."""
    large = objects("a", comment="#" * 20_000)
    for _ in range(2):
        await providers.named_files("azure", large)
    assert 2 == host.calls


async def test_error_is_not_remembered(host: CountingHost) -> None:
    providers = Providers(built_in=_Enabled(host), socket_folders=(), max_receive_bytes=1 << 20)
    for _ in range(2):
        with pytest.raises(AuthorError):
            await providers.named_files("azure", {"objects": "no list"})
    assert 2 == host.calls


class _Enabled(CountingHost):
    """Has the provider, and counts in another one."""

    names = frozenset({"azure"})

    def __init__(self, counter: CountingHost) -> None:
        super().__init__()
        self._counter = counter

    async def named_files(self, name: str, parameters: Mapping[str, str]) -> tuple[NamedFile, ...]:
        return await self._counter.named_files(name, parameters)
