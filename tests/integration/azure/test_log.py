"""What keyferry.providers.azure writes into the log."""

from __future__ import annotations

import logging

import pytest

from keyferry.providers.azure.provider import AzureProvider
from tests.fakes.azure_mounts import call, mount_error
from tests.fakes.devvault import DevVault
from tests.integration.azure.calls import APP, CLIENT_SECRET, PRINCIPAL


async def test_neither_tokens_nor_ids_are_logged(
    vault: DevVault, provider: AzureProvider, caplog: pytest.LogCaptureFixture
) -> None:
    """At any level."""
    with caplog.at_level(logging.DEBUG):
        await provider.mount(call({}, secrets=PRINCIPAL))
        await mount_error(provider, call({}, secrets=PRINCIPAL | {"clientsecret": "canary-x"}))
    written = " ".join(record.getMessage() for record in caplog.records)
    for secret in (CLIENT_SECRET, "canary", "eyJ", "client_secret", APP):
        assert secret not in written
