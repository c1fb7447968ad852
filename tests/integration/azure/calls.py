"""Calls for a mount, who they are for, and how one fails."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from keyferry.azure.provider import AzureProvider
from keyferry.contract import (
    POD_NAME,
    POD_NAMESPACE,
    SERVICE_ACCOUNT,
    SERVICE_ACCOUNT_TOKENS,
    MountCall,
)
from keyferry.errors import Code, KeyferryError
from keyferry.https import HttpsClient, HttpsSettings
from tests.fakes.clock import StillClock
from tests.fakes.devvault import DEFAULT_TENANT, DevVault
from tests.fakes.economy import forgetful

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
async def provider_for(settings: HttpsSettings, clock: StillClock) -> AsyncIterator[AzureProvider]:
    """A provider that is closed at the end."""
    made = AzureProvider(HttpsClient(settings, wall=clock.epoch), forgetful(clock))
    try:
        yield made
    finally:
        await made.close()


def entry(name: str = "db-password", **fields: str) -> str:
    """One item of `objects`."""
    return json.dumps({"objectName": name, "objectType": "secret"} | fields)


def call(
    parameters: dict[str, str], *entries: str, secrets: dict[str, str] | None = None
) -> MountCall:
    """A call for a pod of the service account shop/web."""
    base = {
        POD_NAME: "web-0",
        POD_NAMESPACE: "shop",
        SERVICE_ACCOUNT: "web",
        "keyvaultName": "contoso",
        "tenantID": DEFAULT_TENANT,
        "objects": json.dumps({"array": entries or (entry(),)}),
    }
    return MountCall(base | parameters, secrets)


def workload(vault: DevVault, subject: str = SUBJECT, lifetime: int = 3600) -> dict[str, str]:
    """The parameters of workload identity with a fresh token."""
    token = vault.service_account_token(subject, lifetime_seconds=lifetime)
    return {"clientID": APP, SERVICE_ACCOUNT_TOKENS: token}


async def failure(provider: AzureProvider, wanted: MountCall) -> KeyferryError:
    """The error that a mount ends with: upstream's prefix, gRPC code UNKNOWN, no value in it."""
    with pytest.raises(KeyferryError) as caught:
        await provider.mount(wanted)
    error: BaseException | None = caught.value
    while error is not None:
        assert "canary" not in str(error)
        error = error.__cause__
    assert caught.value.problem.startswith("failed to mount objects, error: ")
    assert caught.value.code == Code.UNKNOWN
    assert caught.value.remedy
    return caught.value
