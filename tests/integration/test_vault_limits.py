"""The variables that limit calls, as a vault sees them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from keyferry.cli.flags.vault import vault_settings
from keyferry.errors import VaultError
from keyferry.net.http_client import HttpsSettings
from keyferry.providers.settings import ProviderDependencies, ProviderSettings
from keyferry.providers.vault.product import VAULT
from keyferry.providers.vault.provider import VaultProvider, build_vault
from tests.fakes.clock import AutojumpClock
from tests.fakes.resilience import uncached_fetcher
from tests.fakes.vault_api import VaultApi, running_vault
from tests.fakes.vault_grants import FakeToken
from tests.fakes.vault_mounts import VaultMounts, entry

THREE = [entry(name, f"secret/data/{name}", secretKey="x") for name in ("one", "two", "three")]


@asynccontextmanager
async def limited(
    vault: VaultApi,
    clock: AutojumpClock,
    environ: Mapping[str, str],
    https: HttpsSettings | None = None,
) -> AsyncIterator[VaultMounts]:
    """A provider as it is built in a process with these variables; it needs no login."""
    vault.tokens["canary-token"] = FakeToken(
        {"secret/data/*": {"read"}}, 1200, 1e9, renewable=False
    )
    settings = ProviderSettings(vault=vault_settings(VAULT, environ, {}))
    provider = build_vault(
        ProviderDependencies(https or HttpsSettings(), settings, uncached_fetcher(clock))
    )
    assert isinstance(provider, VaultProvider)
    try:
        yield VaultMounts(vault, provider, {"vaultAuthMethod": "token"})
    finally:
        await provider.close()


async def mount(mounts: VaultMounts) -> int:
    """How many files come."""
    return len(await mounts.files(*THREE, secrets={"token": "canary-token"}))


@pytest.mark.parametrize(("retries", "tries"), [("0", 1), ("2", 3), ("", 4)])
async def test_a_request_that_fails_is_repeated_so_often(retries: str, tries: int) -> None:
    """VAULT_MAX_RETRIES; without it as often as for all vaults."""
    async with running_vault() as vault:
        vault.fault = (500, ["it is ill"])
        async with limited(vault, AutojumpClock(), {"VAULT_MAX_RETRIES": retries}) as mounts:
            with pytest.raises(VaultError, match="it is ill"):
                await mount(mounts)
        assert tries == vault.request_count("secret/data/one")


@pytest.mark.parametrize(
    ("rate", "pauses"), [("0.5:1", [2.0, 2.0]), ("2", [0.5]), ("0.5:3", []), ("", [])]
)
async def test_calls_wait_for_their_turn(rate: str, pauses: list[float]) -> None:
    """VAULT_RATE_LIMIT: three calls by rate and burst."""
    clock = AutojumpClock()
    async with running_vault() as vault:
        for name in ("one", "two", "three"):
            vault.write("secret", name, {"x": "y"})
        async with limited(vault, clock, {"VAULT_RATE_LIMIT": rate}) as mounts:
            assert 3 == await mount(mounts)
    assert pauses == clock.sleeps


@asynccontextmanager
async def answering_after(seconds: float, socket: Path) -> AsyncIterator[VaultApi]:
    """A vault that takes so long for each answer."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.wait((asyncio.ensure_future(reader.read()),), timeout=seconds)
        body = b'{"data": {"data": {"x": "y"}}}'
        head = f"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        writer.close()

    vault = VaultApi()
    vault.parameters["vaultAddress"] = f"unix://{socket}"
    async with await asyncio.start_unix_server(answer, socket):
        yield vault


@pytest.mark.timeout(10)
async def test_a_vault_that_hangs_is_given_up_in_time(tmp_path: Path) -> None:
    """VAULT_CLIENT_TIMEOUT; without it the test takes longer than it may."""
    environ = {"VAULT_CLIENT_TIMEOUT": "100ms", "VAULT_MAX_RETRIES": "0"}
    async with (
        answering_after(60, tmp_path / "vault.sock") as vault,
        limited(vault, AutojumpClock(), environ) as mounts,
    ):
        with pytest.raises(VaultError):
            await mount(mounts)


async def test_a_slow_vault_may_take_the_whole_time_for_one_answer(tmp_path: Path) -> None:
    """VAULT_CLIENT_TIMEOUT counts before the shorter limit that one try has otherwise."""
    https = HttpsSettings(try_timeout=0.1)
    async with answering_after(0.5, tmp_path / "vault.sock") as vault:
        async with limited(vault, AutojumpClock(), {"VAULT_CLIENT_TIMEOUT": "30"}, https) as mounts:
            assert 3 == await mount(mounts)
        async with limited(vault, AutojumpClock(), {}, https) as mounts:
            with pytest.raises(VaultError):
                await mount(mounts)
