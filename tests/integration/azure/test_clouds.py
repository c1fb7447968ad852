"""Azure: in every cloud: which hosts are asked, and a cloud that a file describes."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from keyferry.errors import ClassInvalidError
from keyferry.providers.azure.clouds import CLOUDS
from keyferry.providers.azure.provider import AzureProvider
from keyferry_devvault.http_types import RequestKind
from tests.fakes.azure_mounts import call, mount_error
from tests.fakes.devvault import DevVault
from tests.integration.azure.calls import PRINCIPAL, STACK, VALUE, VM


async def test_other_clouds_have_their_own_hosts(vault: DevVault, provider: AzureProvider) -> None:
    """A vault of the US government cloud, with a token of its authority."""
    result = await provider.mount(call({"cloudName": "AzureUSGovernmentCloud"}, secrets=PRINCIPAL))
    assert [file.contents for file in result.files] == [VALUE.encode()]
    hosts = {record.host for record in vault.requests}
    assert hosts == {"contoso.vault.usgovcloudapi.net", "login.microsoftonline.us"}


async def test_azure_stack_is_read_from_its_file(
    vault: DevVault, provider: AzureProvider, tmp_path: Path
) -> None:
    """The file is read for each mount."""
    path = tmp_path / "cloud.json"
    stack = {"cloudName": "AzureStackCloud", "cloudEnvFileName": str(path)} | VM
    error = await mount_error(provider, call(stack))
    assert f"open {path}: No such file or directory" in error.problem
    path.write_text(STACK)
    assert (await provider.mount(call(stack))).files[0].contents == VALUE.encode()


async def test_mounts_of_different_clouds_run_concurrently(
    vault: DevVault, provider: AzureProvider, tmp_path: Path
) -> None:
    """Two files and every known cloud; the environment, which upstream modifies, is unchanged."""
    hosts = {cloud.name: cloud.vault_host("contoso") for cloud in CLOUDS}
    calls = [call({"cloudName": name}, secrets=PRINCIPAL) for name in hosts]
    for number, suffix in enumerate(("vault.azure.net", "vault.usgovcloudapi.net")):
        path = tmp_path / f"{number}.json"
        path.write_text(STACK.replace("vault.azure.net", suffix))
        calls.append(call({"cloudName": "AzureStackCloud", "cloudEnvFileName": str(path)} | VM))
    before = dict(os.environ)

    results = await asyncio.gather(*map(provider.mount, calls))

    assert {VALUE.encode()} == {file.contents for result in results for file in result.files}
    asked = {record.host for record in vault.requests if record.kind is RequestKind.SECRET}
    assert set(hosts.values()) == asked
    assert before == dict(os.environ)


async def test_cloud_file_that_is_not_a_regular_file_does_not_block(
    provider: AzureProvider, tmp_path: Path
) -> None:
    """A device, a pipe without a writer, a folder, an invalid path."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path, words in {
        "/dev/zero": "not a regular file",
        str(pipe): "not a regular file",
        "/": "not a regular file",
        "/proc/self/environ\0": "not a path",
    }.items():
        stack = {"cloudName": "AzureStackCloud", "cloudEnvFileName": path} | VM
        error = await mount_error(provider, call(stack))
        assert isinstance(error, ClassInvalidError)
        assert words in error.problem


async def test_cloud_file_larger_than_64_kib_is_rejected(
    provider: AzureProvider, tmp_path: Path
) -> None:
    """No cloud needs more."""
    path = tmp_path / "cloud.json"
    path.write_text(" " * (1 << 16) + STACK)
    stack = {"cloudName": "AzureStackCloud", "cloudEnvFileName": str(path)} | VM
    error = await mount_error(provider, call(stack))
    assert "it is larger than 65536 bytes" in error.problem
