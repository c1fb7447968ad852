"""Azure: in every cloud: which hosts are asked, and a cloud that a file describes."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from keyferry.errors import ClassInvalidError, excerpt
from keyferry.providers.azure.clouds import CLOUDS
from keyferry.providers.azure.provider import AzureProvider
from keyferry.providers.restrictions import UNRESTRICTED
from keyferry.records import replace
from keyferry_devvault.http_types import RequestKind
from tests.fakes.azure_mounts import call, mount_error
from tests.fakes.clock import AutojumpClock
from tests.fakes.devvault import DevVault
from tests.integration.azure.calls import PRINCIPAL, STACK, VALUE, VM, provider_for


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
    assert f"error: cloudEnvFileName {path} cannot be used" in error.problem
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


@pytest.mark.parametrize(
    "name",
    [
        "/dev/zero",
        "{}/permitted/pipe",
        "{}/permitted",
        "{}/permitted/absent",
        "{}/permitted/text",
        "{}/permitted/large",
        "{}/permitted/link",
        "{}/outside.json",
        "/proc/self/environ\0",
        "/var/lib/kubelet/x.json",
    ],
)
async def test_error_does_not_depend_on_why_a_cloud_file_cannot_be_used(
    vault: DevVault, clock: AutojumpClock, tmp_path: Path, name: str
) -> None:
    """It would show the author of a SecretProviderClass which files exist on the node."""
    folder = tmp_path / "permitted"
    folder.mkdir()
    os.mkfifo(folder / "pipe")
    (folder / "text").write_text("Hello")
    (folder / "large").write_text(" " * (1 << 16) + STACK)
    (tmp_path / "outside.json").write_text(STACK)
    (folder / "link").symlink_to("../outside.json")
    restrictions = replace(UNRESTRICTED, file_folders=(str(folder),))
    path = name.format(tmp_path)
    stack = {"cloudName": "AzureStackCloud", "cloudEnvFileName": path} | VM
    async with provider_for(vault.emulator.https, clock, restrictions=restrictions) as provider:
        error = await mount_error(provider, call(stack))
    assert isinstance(error, ClassInvalidError)
    shown = path.replace("\0", "?")
    assert (
        "failed to mount objects, error: cloudName AzureStackCloud is not valid, error: "
        f"cloudEnvFileName {excerpt(shown)} cannot be used"
    ) == error.full_problem
    assert vault.requests == []
