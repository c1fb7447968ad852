"""A development vault that every identity may read, and a provider for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from keyferry.providers.azure.provider import AzureProvider
from tests.fakes.app_certificate import SelfSignedCertificate, new_certificate
from tests.fakes.devvault import DEFAULT_TENANT, DevVault, running_devvault
from tests.integration.azure_identities.calls import (
    APP,
    BINDING,
    BOUND,
    MACHINE,
    MI,
    SUBJECT,
    VALUE,
    provider_for,
)


@pytest.fixture(scope="module")
def certificate() -> SelfSignedCertificate:
    """The one that the app is known by."""
    return new_certificate()


@pytest.fixture
async def vault(tmp_path: Path, certificate: SelfSignedCertificate) -> AsyncIterator[DevVault]:
    """A vault `contoso` that every identity of these tests may read."""
    async with running_devvault(tmp_path) as running:
        running.set_secret("contoso", "db-password", VALUE)
        running.add_app(APP, tenant=DEFAULT_TENANT, secret=None)
        running.add_app_certificate(APP, certificate.certificate_pem)
        running.add_managed_identity(MI)
        running.assign_to_pods(MI, namespace="shop", pod="web-*")
        running.add_managed_identity(BOUND)
        running.federate(BOUND, subject=SUBJECT, audience=BINDING)
        running.add_managed_identity(MACHINE, system_assigned=True)
        for client in (APP, MI, BOUND, MACHINE):
            running.grant("contoso", client)
        yield running


@pytest.fixture
async def provider(vault: DevVault) -> AsyncIterator[AzureProvider]:
    """The provider with its default settings."""
    async with provider_for(vault) as made:
        yield made
