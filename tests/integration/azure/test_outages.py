"""A vault, Entra or IMDS that throttles, fails, hangs or is not there."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from keyferry.errors import ConnectionFailedError, Stage, VaultError, VaultThrottledError
from keyferry.net.http_client import HttpsSettings
from keyferry.providers.azure.provider import AzureProvider
from keyferry.records import replace
from keyferry_devvault.client import DevRedirect
from keyferry_devvault.http_types import RequestKind
from tests.fakes.azure_mounts import call, mount_error
from tests.fakes.clock import AutojumpClock
from tests.fakes.devvault import CloseMidResponse, DevVault, Hang, RespondStatus, running_devvault
from tests.integration.azure.calls import ENTRA, PRINCIPAL, VALUE, VAULT, VM, provider_for


async def test_throttled_request_waits_for_retry_after(
    vault: DevVault, provider: AzureProvider, clock: AutojumpClock
) -> None:
    """Exactly as long as the vault asks."""
    vault.add_fault(VAULT, RespondStatus(429, retry_after=7))
    await provider.mount(call(VM))
    assert clock.sleeps == [7.0]


async def test_retry_after_longer_than_the_deadline_fails_immediately(
    vault: DevVault, provider: AzureProvider, clock: AutojumpClock
) -> None:
    """The error has the requested pause."""
    vault.add_fault(VAULT, RespondStatus(429, retry_after=900))
    error = await mount_error(provider, call(VM))
    assert isinstance(error, VaultThrottledError)
    assert error.retry_after == 900.0
    assert "retry after 900 s" == error.detail
    assert clock.sleeps == []


async def test_request_is_retried_after_a_500(vault: DevVault, provider: AzureProvider) -> None:
    """One failure of the vault does not fail the mount."""
    vault.add_fault(VAULT, RespondStatus(500))
    assert (await provider.mount(call(VM))).files[0].contents == VALUE.encode()


async def test_persistent_failure_of_the_vault_is_an_error(
    vault: DevVault, provider: AzureProvider
) -> None:
    """After four attempts."""
    vault.add_fault(VAULT, RespondStatus(500), times=None)
    error = await mount_error(provider, call(VM))
    assert isinstance(error, VaultError)
    assert f"{VAULT} failed with status 500" in error.problem
    assert "4 tries" == error.detail


async def test_request_is_retried_after_an_incomplete_response(
    vault: DevVault, provider: AzureProvider
) -> None:
    """A persistent failure is an error."""
    vault.add_fault(VAULT, CloseMidResponse())
    assert (await provider.mount(call(VM))).files[0].contents == VALUE.encode()
    vault.add_fault(VAULT, CloseMidResponse(), times=None)
    error = await mount_error(provider, call(VM))
    assert (type(error), error.stage) == (ConnectionFailedError, Stage.CONNECT)
    assert f"{VAULT} closed the connection before its response was complete" in error.problem


async def test_unresponsive_vault_is_a_timeout(vault: DevVault, clock: AutojumpClock) -> None:
    """Each attempt has a timeout."""
    settings = replace(vault.emulator.https, try_timeout=0.2)
    vault.add_fault(VAULT, Hang(), times=None)
    async with provider_for(settings, clock) as provider:
        error = await mount_error(provider, call(VM))
    assert (type(error), error.stage) == (ConnectionFailedError, Stage.CONNECT)
    assert f"{VAULT} did not answer in time" in error.problem
    assert "4 tries" == error.detail


async def test_starting_imds_is_retried(vault: DevVault, provider: AzureProvider) -> None:
    """It returns 410 while it is updated."""
    vault.add_fault("/metadata", RespondStatus(410))
    assert (await provider.mount(call(VM))).files[0].contents == VALUE.encode()


async def test_machine_without_imds_fails_without_retries(
    vault: DevVault, clock: AutojumpClock
) -> None:
    """In seconds, with a remedy for machines outside of Azure."""
    closed = ("127.0.0.1", _closed_port())
    dev = DevRedirect(vault.redirect.https, closed, vault.redirect.ca_file)
    async with provider_for(dev.emulator().https, clock) as provider:
        error = await mount_error(provider, call(VM))
    assert (type(error), error.stage) == (ConnectionFailedError, Stage.CONNECT)
    assert "this machine has no IMDS" in error.problem
    assert "Managed identities work only on Azure VMs" in error.remedy
    assert clock.sleeps == []


async def test_failing_entra_is_retried(
    vault: DevVault, provider: AzureProvider, clock: AutojumpClock
) -> None:
    """After its Retry-After."""
    vault.add_fault(ENTRA, RespondStatus(503, retry_after=2))
    vault.add_fault(ENTRA, CloseMidResponse())
    assert (await provider.mount(call({}, secrets=PRINCIPAL))).files[0].contents == VALUE.encode()
    assert clock.sleeps == [2.0, 0.8]


async def test_unresponsive_entra_is_a_timeout(vault: DevVault, clock: AutojumpClock) -> None:
    """Token requests have the same timeout."""
    settings = replace(vault.emulator.https, try_timeout=0.2)
    vault.add_fault(ENTRA, Hang(), times=None)
    async with provider_for(settings, clock) as provider:
        error = await mount_error(provider, call({}, secrets=PRINCIPAL))
    assert (type(error), error.stage) == (ConnectionFailedError, Stage.CONNECT)
    assert f"{ENTRA} did not answer in time" in error.problem
    assert "4 tries" == error.detail


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
async def test_malformed_responses_are_keyferry_errors(
    vault: DevVault, provider: AzureProvider, break_it: Callable[[DevVault], None]
) -> None:
    """No foreign exception escapes."""
    break_it(vault)
    await mount_error(provider, call({}, secrets=PRINCIPAL))


def _closed_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
