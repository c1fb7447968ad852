"""Who the calls of these tests are for, and a provider that answers them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from keyferry.net.address_guard import AddressGuard
from keyferry.net.http_client import HttpsClient, HttpsSettings
from keyferry.providers.azure.provider import AzureProvider
from keyferry.providers.known_fields.attributes import SERVICE_ACCOUNT_TOKENS
from keyferry.providers.restrictions import UNRESTRICTED, ClassRestrictions
from keyferry.providers.settings import ProviderSettings
from tests.fakes.clock import AutojumpClock
from tests.fakes.devvault import DevVault
from tests.fakes.resilience import uncached_fetcher

MI = "11111111-0000-4000-8000-000000000001"
APP = "22222222-0000-4000-8000-000000000002"
STRANGER = "33333333-0000-4000-8000-000000000003"
CLIENT_SECRET = "canary-client-secret"
VALUE = "canary-value"
SUBJECT = "system:serviceaccount:shop:web"
VAULT = "contoso.vault.azure.net"
ENTRA = "login.microsoftonline.com"
VM = {"useVMManagedIdentity": "true", "userAssignedIdentityID": MI}
PRINCIPAL = {"clientid": APP, "clientsecret": CLIENT_SECRET}
STACK = json.dumps(
    {
        "name": "AzureStackCloud",
        "activeDirectoryEndpoint": "https://login.microsoftonline.com/",
        "keyVaultEndpoint": "https://vault.azure.net/",
        "keyVaultDNSSuffix": "vault.azure.net",
    }
)


@asynccontextmanager
async def provider_for(
    settings: HttpsSettings,
    clock: AutojumpClock,
    *,
    restrictions: ClassRestrictions = UNRESTRICTED,
    guard: AddressGuard | None = None,
) -> AsyncIterator[AzureProvider]:
    """A provider that is closed at the end."""
    made = AzureProvider(
        HttpsClient(settings, clock=clock, guard=guard),
        uncached_fetcher(clock),
        ProviderSettings(restrictions=restrictions),
    )
    try:
        yield made
    finally:
        await made.close()


def workload(vault: DevVault, subject: str = SUBJECT, lifetime: int = 3600) -> dict[str, str]:
    """The parameters of workload identity with a fresh token."""
    token = vault.service_account_token(subject, lifetime_seconds=lifetime)
    return {"clientID": APP, SERVICE_ACCOUNT_TOKENS: token}
