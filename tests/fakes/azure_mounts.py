"""Mount calls for the vault `contoso` of a development vault, and their errors."""

from __future__ import annotations

import json

import pytest

from keyferry.errors import Code, KeyferryError
from keyferry.net.http_client import HttpsClient, HttpsSettings
from keyferry.providers.api import MountCall
from keyferry.providers.azure.provider import AzureProvider
from keyferry.providers.emulator import Emulator
from keyferry.providers.known_fields.attributes import POD_NAME, POD_NAMESPACE, SERVICE_ACCOUNT
from keyferry.providers.restrictions import UNRESTRICTED
from keyferry.providers.settings import ProviderSettings
from tests.fakes.devvault import DEFAULT_TENANT
from tests.fakes.resilience import uncached_fetcher


def entry(name: str = "db-password", **fields: object) -> str:
    """Return one item of `objects`, by default a secret."""
    return json.dumps({"objectName": name, "objectType": "secret"} | fields)


def call(
    parameters: dict[str, str], *entries: str, secrets: dict[str, str] | None = None
) -> MountCall:
    """Return a call for pod shop/web-0 of service account web, by default for `db-password`."""
    base = {
        POD_NAME: "web-0",
        POD_NAMESPACE: "shop",
        SERVICE_ACCOUNT: "web",
        "keyvaultName": "contoso",
        "tenantID": DEFAULT_TENANT,
        "objects": json.dumps({"array": entries or (entry(),)}),
    }
    return MountCall(base | parameters, secrets)


def trusting_provider(https: HttpsSettings, emulator: Emulator | None) -> AzureProvider:
    """Return a provider that does not restrict what SecretProviderClasses name."""
    settings = ProviderSettings(restrictions=UNRESTRICTED)
    return AzureProvider(HttpsClient(https), uncached_fetcher(), settings, emulator=emulator)


async def mount_error(provider: AzureProvider, mount_call: MountCall) -> KeyferryError:
    """Return the error of a failed mount; it has upstream's prefix, code UNKNOWN and a remedy.

    Neither the error nor a cause of it contains a secret value.
    """
    with pytest.raises(KeyferryError) as caught:
        await provider.mount(mount_call)
    error: BaseException | None = caught.value
    while error is not None:
        assert "canary" not in str(error)
        error = error.__cause__
    assert caught.value.full_problem.startswith("failed to mount objects, error: ")
    assert caught.value.code == Code.UNKNOWN
    assert caught.value.remedy
    return caught.value
