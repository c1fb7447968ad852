"""The token endpoints of the development vault, judged by Microsoft's own client library."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from azure.core.exceptions import ClientAuthenticationError
from azure.core.pipeline.transport import AioHttpTransport
from azure.identity.aio import ClientAssertionCredential, ClientSecretCredential

from tests.fakes.devvault import DevVault, running_devvault
from tests.integration.test_devvault_server import client_of

TENANT = "bbbbbbbb-0000-4000-8000-000000000002"
CLIENT = "aaaaaaaa-0000-4000-8000-000000000001"
SUBJECT = "system:serviceaccount:shop:web"
SCOPE = "https://vault.azure.net/.default"


@asynccontextmanager
async def signed_up(folder: Path) -> AsyncIterator[tuple[DevVault, AioHttpTransport]]:
    """An app of a tenant, and a transport that leads to the development vault."""
    async with running_devvault(folder) as vault, client_of(vault.redirect) as client:
        vault.add_app(CLIENT, tenant=TENANT, secret="canary-right")
        vault.federate(CLIENT, subject=SUBJECT)
        yield vault, AioHttpTransport(session=client, session_owner=False)


async def test_a_client_secret_credential_gets_a_token(tmp_path: Path) -> None:
    """The library finds the answer of the token endpoint good."""
    async with signed_up(tmp_path) as (_, transport):
        credential = ClientSecretCredential(TENANT, CLIENT, "canary-right", transport=transport)
        async with credential:
            assert (await credential.get_token(SCOPE)).token


async def test_a_wrong_client_secret_is_reported_as_entra_does(tmp_path: Path) -> None:
    """The library finds the code and the description where it looks for them."""
    async with signed_up(tmp_path) as (_, transport):
        credential = ClientSecretCredential(TENANT, CLIENT, "canary-wrong", transport=transport)
        async with credential:
            with pytest.raises(ClientAuthenticationError, match="AADSTS7000215") as caught:
                await credential.get_token(SCOPE)
        assert "canary" not in str(caught.value)


async def test_a_federated_token_gets_a_token(tmp_path: Path) -> None:
    """As in workload identity: the token of the service account is the assertion."""
    async with signed_up(tmp_path) as (vault, transport):
        passed = json.loads(vault.service_account_token(SUBJECT))
        assertion = passed["api://AzureADTokenExchange"]["token"]
        credential = ClientAssertionCredential(
            TENANT, CLIENT, lambda: assertion, transport=transport
        )
        async with credential:
            assert (await credential.get_token(SCOPE)).token
