"""Environment variables that limit requests, as the vault sees the requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from keyferry.aio.jobs import ThreadJobRunner
from keyferry.cli.flags.vault import vault_settings
from keyferry.errors import VaultError
from keyferry.net.http_client import HttpsSettings
from keyferry.providers.restrictions import UNRESTRICTED
from keyferry.providers.settings import ProviderDependencies, ProviderSettings
from keyferry.providers.vault.product import VAULT
from keyferry.providers.vault.provider import VaultProvider, build_vault
from tests.fakes.clock import AutojumpClock
from tests.fakes.resilience import uncached_fetcher
from tests.fakes.vault_api import VaultApi, running_vault
from tests.fakes.vault_auth import FakeToken
from tests.fakes.vault_mounts import VaultMounts, entry

THREE = [entry(name, f"secret/data/{name}", secretKey="x") for name in ("one", "two", "three")]


@asynccontextmanager
async def limited(
    vault: VaultApi,
    clock: AutojumpClock,
    environ: Mapping[str, str],
    https: HttpsSettings | None = None,
) -> AsyncIterator[VaultMounts]:
    """Run a provider built with these variables. It needs no login."""
    vault.tokens["canary-token"] = FakeToken(
        {"secret/data/*": {"read"}}, 1200, 1e9, renewable=False
    )
    settings = ProviderSettings(vault=vault_settings(VAULT, environ, {}), restrictions=UNRESTRICTED)
    provider = build_vault(
        ProviderDependencies(
            https or HttpsSettings(), settings, uncached_fetcher(clock), ThreadJobRunner()
        )
    )
    assert isinstance(provider, VaultProvider)
    try:
        yield VaultMounts(vault, provider, {"vaultAuthMethod": "token"})
    finally:
        await provider.close()


async def mount(mounts: VaultMounts) -> int:
    """Return the number of files of a mount."""
    return len(await mounts.files(*THREE, secrets={"token": "canary-token"}))


@pytest.mark.parametrize(("retries", "tries"), [("0", 1), ("2", 3), ("", 4)])
async def test_max_retries_variable_limits_retries(retries: str, tries: int) -> None:
    """Without VAULT_MAX_RETRIES the global limit applies."""
    async with running_vault() as vault:
        vault.fault = (500, ["it is ill"])
        async with limited(vault, AutojumpClock(), {"VAULT_MAX_RETRIES": retries}) as mounts:
            with pytest.raises(VaultError, match="it is ill"):
                await mount(mounts)
        assert tries == vault.request_count("secret/data/one")


@pytest.mark.parametrize(
    ("rate", "pauses"), [("0.5:1", [2.0, 2.0]), ("2", [0.5]), ("0.5:3", []), ("", [])]
)
async def test_rate_limit_variable_limits_requests(rate: str, pauses: list[float]) -> None:
    """VAULT_RATE_LIMIT: three requests by rate and burst."""
    clock = AutojumpClock()
    async with running_vault() as vault:
        for name in ("one", "two", "three"):
            vault.write("secret", name, {"x": "y"})
        async with limited(vault, clock, {"VAULT_RATE_LIMIT": rate}) as mounts:
            assert 3 == await mount(mounts)
    assert pauses == clock.sleeps


@asynccontextmanager
async def answering_after(seconds: float, socket: Path) -> AsyncIterator[VaultApi]:
    """Run a vault with a fixed delay of each response."""

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.wait((asyncio.ensure_future(reader.read()),), timeout=seconds)
        body = b'{"data": {"data": {"x": "y"}}}'
        head = f"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        writer.close()

    vault = VaultApi()
    vault.parameters["vaultAddress"] = f"unix://{socket}"
    async with await asyncio.start_unix_server(respond, socket):
        yield vault


async def test_client_timeout_variable_limits_a_hanging_request(tmp_path: Path) -> None:
    """Without VAULT_CLIENT_TIMEOUT the test would not end."""
    https = HttpsSettings(try_timeout=1000.0)
    environ = {"VAULT_CLIENT_TIMEOUT": "100ms", "VAULT_MAX_RETRIES": "0"}
    async with (
        answering_after(1000, tmp_path / "vault.sock") as vault,
        limited(vault, AutojumpClock(), environ, https) as mounts,
    ):
        with pytest.raises(VaultError):
            await mount(mounts)


async def test_client_timeout_variable_permits_a_slow_response(tmp_path: Path) -> None:
    """VAULT_CLIENT_TIMEOUT overrides the shorter default timeout of one try."""
    https = HttpsSettings(try_timeout=0.1)
    async with answering_after(0.5, tmp_path / "vault.sock") as vault:
        async with limited(vault, AutojumpClock(), {"VAULT_CLIENT_TIMEOUT": "30"}, https) as mounts:
            assert 3 == await mount(mounts)
        async with limited(vault, AutojumpClock(), {}, https) as mounts:
            with pytest.raises(VaultError):
                await mount(mounts)
