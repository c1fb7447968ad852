"""The identities of these tests, and a provider that takes them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from keyferry.net.http_client import HttpsClient
from keyferry.providers.api import MountCall
from keyferry.providers.azure.provider import AzureProvider
from keyferry.providers.known_fields.attributes import SERVICE_ACCOUNT_TOKENS
from keyferry.providers.settings import ProviderSettings
from keyferry_devvault.client import DevRedirect
from tests.fakes.devvault import DevVault
from tests.fakes.resilience import uncached_fetcher

MI = "11111111-0000-4000-8000-000000000001"
APP = "22222222-0000-4000-8000-000000000002"
BOUND = "33333333-0000-4000-8000-000000000003"
MACHINE = "44444444-0000-4000-8000-000000000004"
SUBJECT = "system:serviceaccount:shop:web"
BINDING = "api://AKSIdentityBinding"
VALUE = "canary-value"
PASSWORD = "canary-password"
HSM = "contoso.managedhsm.azure.net"


@asynccontextmanager
async def provider_for(
    vault: DevVault, settings: ProviderSettings | None = None, redirect: DevRedirect | None = None
) -> AsyncIterator[AzureProvider]:
    """A provider that is redirected to the vault and pauses for no time."""
    emulator = (redirect or vault.redirect).emulator()
    made = AzureProvider(
        HttpsClient(emulator.https), uncached_fetcher(), settings, emulator=emulator
    )
    try:
        yield made
    finally:
        await made.close()


def bound(vault: DevVault, subject: str = SUBJECT, lifetime: int = 3600) -> dict[str, str]:
    """The parameters of an identity binding, with a fresh token."""
    tokens = vault.service_account_token(subject, audience=BINDING, lifetime_seconds=lifetime)
    return {"useAzureTokenProxy": "true", "clientID": BOUND, SERVICE_ACCOUNT_TOKENS: tokens}


async def value(provider: AzureProvider, wanted: MountCall) -> bytes:
    """What the one file of a mount holds."""
    return (await provider.mount(wanted)).files[0].contents
