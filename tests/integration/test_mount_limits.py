"""The size limits of volumes and tenants, with vaults that serve large objects."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from keyferry.errors import MountLimitError
from keyferry.net.http_client import HttpsClient
from keyferry.providers.api import MountCall
from keyferry.providers.azure.provider import AzureProvider
from keyferry.providers.known_fields.attributes import POD_NAME, POD_NAMESPACE
from keyferry.providers.mount_limits import MAX_CONCURRENT_MOUNTS, MountLimits
from keyferry.providers.settings import ProviderSettings
from tests.fakes.devvault import DEFAULT_TENANT, running_devvault
from tests.fakes.resilience import uncached_fetcher
from tests.fakes.vault_api import running_vault
from tests.fakes.vault_auth import FakeToken
from tests.fakes.vault_mounts import FakePod, VaultMounts, entry, vault_mounts

CLIENT = "22222222-0000-4000-8000-000000000000"
LIMIT = 64 * 1024
OBJECTS = 150
"""More than are requested at once."""
TOKEN = {"token": "canary-token"}


@asynccontextmanager
async def large_vault(limits: MountLimits) -> AsyncIterator[VaultMounts]:
    """A vault with a 100 KiB value at every path below `secret/large/`."""
    async with running_vault() as vault:
        vault.tokens["canary-token"] = FakeToken({"*": {"read"}}, 1200, 1e9, renewable=False)
        for number in range(OBJECTS):
            vault.write("secret", f"large/{number}", {"x": "y" * 100_000})
        parameters = {"vaultAuthMethod": "token"}
        async with vault_mounts(vault, mount_limits=limits) as mounts:
            mounts.parameters |= parameters
            yield mounts


def large(count: int, **fields: Any) -> list[dict[str, Any]]:
    """Entries for `count` different large objects."""
    return [entry(f"f{n}", f"secret/data/large/{n}", **fields) for n in range(count)]


async def test_vault_mount_that_is_too_large_stops_early() -> None:
    """Most objects are never requested, and other requests of the mount end with it."""
    async with large_vault(MountLimits(LIMIT)) as mounts:
        with pytest.raises(MountLimitError, match="objects that were fetched so far have"):
            await mounts.mount(*large(OBJECTS, secretKey="x"), secrets=TOKEN)
        requests = mounts.vault.request_count
        before = len(mounts.vault.audit)
        assert sum(requests(f"secret/data/large/{n}") for n in range(OBJECTS)) < OBJECTS
        await asyncio.sleep(0.05)
        assert before == len(mounts.vault.audit)


async def test_files_made_from_one_vault_response_are_limited() -> None:
    """The whole response in each file; the vault is asked once."""
    async with large_vault(MountLimits(10 * LIMIT)) as mounts:
        same = [entry(f"f{n}", "secret/data/large/0") for n in range(30)]
        assert 6 == len(await mounts.files(*same[:6], secrets=TOKEN))
        with pytest.raises(MountLimitError, match="its first 7 files"):
            await mounts.mount(*same, secrets=TOKEN)


async def test_mount_of_small_keys_of_large_secrets_is_delivered() -> None:
    """The limit is that of the files; responses may be larger."""
    async with large_vault(MountLimits(LIMIT)) as mounts:
        for number in range(8):
            mounts.vault.write("secret", f"large/{number}", {"x": "1", "y": "y" * 100_000})
        files = await mounts.files(*large(8, secretKey="x"), secrets=TOKEN)
        assert {f"f{n}": b"1" for n in range(8)} == files


async def test_azure_mount_that_is_too_large_names_the_flag(tmp_path: Path) -> None:
    """From different objects, and from one object in many files."""
    async with running_devvault(tmp_path) as vault:
        for number in range(40):
            vault.set_secret("contoso", f"large-{number}", "x" * 20_000)
        vault.add_managed_identity(CLIENT, tenant=DEFAULT_TENANT)
        vault.grant("contoso", CLIENT, "get")
        provider = AzureProvider(
            HttpsClient(vault.emulator.https),
            uncached_fetcher(),
            ProviderSettings(max_mount_bytes=LIMIT),
            emulator=vault.emulator,
        )
        try:
            three = await provider.mount(azure_call("large-0", "large-1", "large-2"))
            assert 3 == len(three.files)
            with pytest.raises(MountLimitError, match="--max-call-recv-msg-size") as caught:
                await provider.mount(azure_call(*(f"large-{number}" for number in range(40))))
            assert f"limits a volume to {LIMIT} bytes" in str(caught.value)
            with pytest.raises(MountLimitError, match="its first 4 files"):
                await provider.mount(azure_call(*["large-0"] * 40))
        finally:
            await provider.close()


def azure_call(*names: str) -> MountCall:
    """A mount of these secrets, each in a file of its own."""
    objects = [
        {"objectName": name, "objectType": "secret", "objectAlias": f"file{number}"}
        for number, name in enumerate(names)
    ]
    return MountCall(
        attributes={
            "useVMManagedIdentity": "true",
            "userAssignedIdentityID": CLIENT,
            "keyvaultName": "contoso",
            "tenantID": DEFAULT_TENANT,
            "objects": yaml.safe_dump({"array": [yaml.safe_dump(one) for one in objects]}),
            POD_NAME: "web",
            POD_NAMESPACE: "shop",
        }
    )


class StallingVault:
    """A vault that sends most of each large response, and then nothing, until `released`.

    Attributes:
        released: ends the responses.
    """

    def __init__(self) -> None:
        self.released = asyncio.Event()

    async def respond(self, request: web.Request) -> web.StreamResponse:
        """Answer a read."""
        body = json.dumps({"data": {"data": {"x": "y" * 900_000}, "metadata": {"version": 1}}})
        response = web.StreamResponse()
        response.content_length = len(body)
        await response.prepare(request)
        with suppress(ConnectionResetError):
            await response.write(body[:-10].encode())
            await self.released.wait()
            await response.write(body[-10:].encode())
        return response

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """Serve on a free port; yield the address."""
        app = web.Application()
        app.router.add_get("/{path:.*}", self.respond)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            yield "http://{}:{}".format(*runner.addresses[0][:2])
        finally:
            await runner.cleanup()


async def test_responses_that_never_end_are_bounded_for_each_tenant() -> None:
    """A tenant cannot fill the memory with incomplete responses; another tenant is not affected."""
    evil = StallingVault()
    async with evil.running() as address, large_vault(MountLimits(4 * LIMIT)) as mounts:

        async def attack(number: int) -> None:
            paths = [f"secret/data/{number}/{n}" for n in range(4)]
            entries = [entry(f"f{n}", path, secretKey="x") for n, path in enumerate(paths)]
            pod = FakePod(f"evil-{number}", account="evil/web")
            await mounts.mount(*entries, pod=pod, secrets=TOKEN, vaultAddress=address)

        attacks = [asyncio.create_task(attack(n)) for n in range(MAX_CONCURRENT_MOUNTS)]
        done, _ = await asyncio.wait(attacks, return_when=asyncio.FIRST_COMPLETED)
        assert isinstance(done.pop().exception(), MountLimitError)
        assert 1 == len(await mounts.files(*large(1), secrets=TOKEN))
        evil.released.set()
        await asyncio.gather(*attacks, return_exceptions=True)
