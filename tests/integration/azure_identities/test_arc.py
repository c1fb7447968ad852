"""The identity of a machine that Azure Arc manages."""

from __future__ import annotations

from pathlib import Path

import pytest

from keyferry.errors import IdentityError
from keyferry.net.http_client import HttpsClient
from keyferry.providers.azure.auth.identity import ArcIdentity, VmManagedIdentity
from keyferry.providers.azure.auth.machine import ArcAgent, AzurePrivileges
from keyferry.providers.azure.auth.token_cache import AccessTokenRequest, TokenCache
from keyferry.providers.azure.auth.token_sources import TokenEndpoints
from keyferry.providers.azure.clouds import CLOUDS
from keyferry.providers.azure.provider import AzureProvider
from keyferry.providers.settings import ProviderSettings
from keyferry.records import replace
from keyferry_devvault.http_types import RequestKind
from tests.fakes.azure_mounts import call, mount_error
from tests.fakes.devvault import DEFAULT_TENANT, DevVault, RespondStatus
from tests.fakes.resilience import uncached_fetcher
from tests.integration.azure_identities.calls import MI, VALUE, value


async def test_arc_machine_authenticates_with_a_challenge_file(
    vault: DevVault, provider: AzureProvider
) -> None:
    """One challenge, one solution; the file is removed afterwards."""
    assert await value(provider, call({"useArcManagedIdentity": "true"})) == VALUE.encode()
    assert [vault.count(RequestKind.IMDS, status=status) for status in (401, 200)] == [1, 1]
    assert list((vault.data.folder / "arc").iterdir()) == []


async def test_challenge_outside_of_the_agents_folder_is_rejected(
    vault: DevVault, tmp_path: Path
) -> None:
    """Another program on that port must not make Keyferry read a file."""
    client = HttpsClient(vault.emulator.https)
    places = TokenEndpoints.from_settings(ProviderSettings(), vault.emulator)
    elsewhere = replace(places, arc=ArcAgent(AzurePrivileges(tmp_path / "other"), program=None))
    credentials = TokenCache(client, uncached_fetcher().transport, endpoints=elsewhere)
    try:
        with pytest.raises(IdentityError, match="names a challenge file outside of"):
            await credentials.token_provider(
                AccessTokenRequest(ArcIdentity(), DEFAULT_TENANT, CLOUDS[0])
            ).get_token()
    finally:
        await credentials.close()
        await client.close()
    assert vault.count(RequestKind.IMDS, status=200) == 0


async def test_machine_with_the_arc_agent_uses_it_instead_of_imds(
    vault: DevVault, tmp_path: Path
) -> None:
    """Same as upstream; user-assigned identities are rejected."""
    (tmp_path / "himds").touch()
    client = HttpsClient(vault.emulator.https)
    places = TokenEndpoints.from_settings(ProviderSettings(), vault.emulator)
    arc = replace(places.arc, program=tmp_path / "himds")
    credentials = TokenCache(
        client, uncached_fetcher().transport, endpoints=replace(places, arc=arc)
    )
    try:
        login = AccessTokenRequest(VmManagedIdentity(""), DEFAULT_TENANT, CLOUDS[0])
        await credentials.token_provider(login).get_token()
        with pytest.raises(IdentityError, match="connected to Azure Arc"):
            credentials.token_provider(replace(login, identity=VmManagedIdentity(MI)))
    finally:
        await credentials.close()
        await client.close()
    assert vault.count(RequestKind.IMDS, status=401) == 1


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (403, "rejects the response to its challenge (status 403)"),
        (400, "the Azure Arc agent refuses a token (status 400)"),
        (503, "the Azure Arc agent has no token (status 503)"),
    ],
)
async def test_refusals_of_the_arc_agent_are_explained(
    vault: DevVault, provider: AzureProvider, status: int, words: str
) -> None:
    """Each status has its own message."""
    vault.add_fault("127.0.0.1/metadata", RespondStatus(status), times=None)
    error = await mount_error(provider, call({"useArcManagedIdentity": "true"}))
    assert isinstance(error, IdentityError)
    assert words in error.problem
