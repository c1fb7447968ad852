"""A vault, Entra or IMDS that throttles, fails, hangs or is not there."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from keyferry.errors import ConnectionFailedError, Stage, VaultError, VaultThrottledError
from keyferry.net.http_client import HttpsSettings
from keyferry.providers.azure.provider import AzureProvider
from keyferry_devvault.client import DevRedirect
from keyferry_devvault.http_types import RequestKind
from tests.fakes.azure_mounts import call, mount_error
from tests.fakes.clock import AutojumpClock
from tests.fakes.devvault import CloseMidResponse, DevVault, Hang, RespondStatus, running_devvault
from tests.integration.azure.calls import ENTRA, PRINCIPAL, VALUE, VAULT, VM, provider_for


async def test_throttling_is_waited_out(
    vault: DevVault, provider: AzureProvider, clock: AutojumpClock
) -> None:
    """Retry-After is obeyed to the second."""
    vault.add_fault(VAULT, RespondStatus(429, retry_after=7))
    await provider.mount(call(VM))
    assert clock.sleeps == [7.0]


async def test_throttling_longer_than_a_mount_may_take_is_said_at_once(
    vault: DevVault, provider: AzureProvider, clock: AutojumpClock
) -> None:
    """With the pause that was asked for."""
    vault.add_fault(VAULT, RespondStatus(429, retry_after=900))
    error = await mount_error(provider, call(VM))
    assert isinstance(error, VaultThrottledError)
    assert error.retry_after == 900.0
    assert "retry after 900 s" in error.problem
    assert clock.sleeps == []


async def test_a_500_and_then_success_is_a_success(
    vault: DevVault, provider: AzureProvider
) -> None:
    """One failure of the vault is not one of the mount."""
    vault.add_fault(VAULT, RespondStatus(500))
    assert (await provider.mount(call(VM))).files[0].contents == VALUE.encode()


async def test_a_vault_that_goes_on_failing_is_an_error(
    vault: DevVault, provider: AzureProvider
) -> None:
    """After four tries."""
    vault.add_fault(VAULT, RespondStatus(500), times=None)
    error = await mount_error(provider, call(VM))
    assert isinstance(error, VaultError)
    assert f"{VAULT} failed with status 500 (4 tries)" in error.problem


async def test_a_connection_closed_half_way_is_tried_again(
    vault: DevVault, provider: AzureProvider
) -> None:
    """And an error when it goes on."""
    vault.add_fault(VAULT, CloseMidResponse())
    assert (await provider.mount(call(VM))).files[0].contents == VALUE.encode()
    vault.add_fault(VAULT, CloseMidResponse(), times=None)
    error = await mount_error(provider, call(VM))
    assert (type(error), error.stage) == (ConnectionFailedError, Stage.CONNECT)
    assert f"{VAULT} closed the connection before its response was complete" in error.problem


async def test_a_vault_that_does_not_answer_is_a_time_out(
    vault: DevVault, clock: AutojumpClock
) -> None:
    """Each try is limited."""
    settings = replace(vault.emulator.https, try_timeout=0.2)
    vault.add_fault(VAULT, Hang(), times=None)
    async with provider_for(settings, clock) as provider:
        error = await mount_error(provider, call(VM))
    assert (type(error), error.stage) == (ConnectionFailedError, Stage.CONNECT)
    assert f"{VAULT} did not answer in time (4 tries)" in error.problem


async def test_an_imds_that_starts_is_waited_for(vault: DevVault, provider: AzureProvider) -> None:
    """410 while it is updated."""
    vault.add_fault("/metadata", RespondStatus(410))
    assert (await provider.mount(call(VM))).files[0].contents == VALUE.encode()


async def test_a_machine_without_imds_is_told_in_one_try(
    vault: DevVault, clock: AutojumpClock
) -> None:
    """Seconds, not minutes, and the question whether this is an Azure VM."""
    closed = ("127.0.0.1", _closed_port())
    dev = DevRedirect(vault.redirect.https, closed, vault.redirect.ca_file)
    async with provider_for(dev.emulator().https, clock) as provider:
        error = await mount_error(provider, call(VM))
    assert (type(error), error.stage) == (ConnectionFailedError, Stage.CONNECT)
    assert "this machine has no IMDS" in error.problem
    assert "Managed identities work only on Azure VMs" in error.remedy
    assert clock.sleeps == []


async def test_an_entra_that_fails_is_tried_again(
    vault: DevVault, provider: AzureProvider, clock: AutojumpClock
) -> None:
    """With the pause it asks for."""
    vault.add_fault(ENTRA, RespondStatus(503, retry_after=2))
    vault.add_fault(ENTRA, CloseMidResponse())
    assert (await provider.mount(call({}, secrets=PRINCIPAL))).files[0].contents == VALUE.encode()
    assert clock.sleeps == [2.0, 0.8]


async def test_an_entra_that_hangs_is_a_time_out(vault: DevVault, clock: AutojumpClock) -> None:
    """Our limit counts for tokens as well."""
    settings = replace(vault.emulator.https, try_timeout=0.2)
    vault.add_fault(ENTRA, Hang(), times=None)
    async with provider_for(settings, clock) as provider:
        error = await mount_error(provider, call({}, secrets=PRINCIPAL))
    assert (type(error), error.stage) == (ConnectionFailedError, Stage.CONNECT)
    assert f"{ENTRA} did not answer in time (4 tries)" in error.problem


async def test_an_authority_that_does_not_resolve_is_a_dns_failure(
    clock: AutojumpClock, tmp_path: Path
) -> None:
    """The stage and the host are named, for tokens and for vaults alike."""
    path = tmp_path / "cloud.json"
    cloud = {
        "activeDirectoryEndpoint": "https://login.invalid/",
        "keyVaultEndpoint": "https://vault.invalid/",
        "keyVaultDNSSuffix": "vault.invalid",
    }
    path.write_text(json.dumps(cloud))
    stack = {"cloudName": "AzureStackCloud", "cloudEnvFileName": str(path)}
    async with provider_for(HttpsSettings(), clock) as provider:
        error = await mount_error(provider, call(stack, secrets=PRINCIPAL))
    assert (type(error), error.stage) == (ConnectionFailedError, Stage.DNS)
    assert "the host name login.invalid could not be resolved" in error.problem


async def test_an_authority_with_an_untrusted_certificate_is_a_tls_failure(
    vault: DevVault, clock: AutojumpClock, tmp_path: Path
) -> None:
    """Tokens are asked for over verified TLS only."""
    async with running_devvault(tmp_path / "other") as other:
        dev = DevRedirect(vault.redirect.https, vault.redirect.http, other.redirect.ca_file)
        async with provider_for(dev.emulator().https, clock) as provider:
            error = await mount_error(provider, call({}, secrets=PRINCIPAL))
    assert (type(error), error.stage) == (ConnectionFailedError, Stage.TLS)
    assert f"the TLS certificate of {ENTRA} is not accepted" in error.problem
    assert vault.count(RequestKind.TOKEN) == 0


@pytest.mark.parametrize(
    "break_it",
    [
        lambda vault: vault.add_fault(ENTRA, RespondStatus(400), times=None),
        lambda vault: vault.add_fault(ENTRA, RespondStatus(200), times=None),
        lambda vault: vault.add_fault(VAULT, RespondStatus(200), times=None),
    ],
)
async def test_answers_without_sense_are_errors_of_ours(
    vault: DevVault, provider: AzureProvider, break_it: Callable[[DevVault], None]
) -> None:
    """Whoever answers there, nothing foreign escapes."""
    break_it(vault)
    await mount_error(provider, call({}, secrets=PRINCIPAL))


def _closed_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
