"""The audit log of `keyferry provider`, which knows the pod from the attributes of a call."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from keyferry.errors import KeyferryError
from keyferry.net.grpc_server import serving_grpc
from keyferry.net.http_client import HttpsClient
from keyferry.net.sockets import parse_endpoint
from keyferry.plugins.external_provider import ExternalProvider
from keyferry.providers.api import MountCall
from keyferry.providers.azure.provider import AzureProvider
from keyferry.providers.known_fields.attributes import POD_UID
from keyferry.providers.server import add_provider
from keyferry.records import replace
from tests.fakes.audit import RecordingAuditLog
from tests.fakes.azure_mounts import call
from tests.fakes.devvault import DevVault, running_devvault
from tests.fakes.resilience import uncached_fetcher

MI = "11111111-0000-4000-8000-000000000001"
POD = {"useVMManagedIdentity": "true", "userAssignedIdentityID": MI, POD_UID: "uid-of-web-0"}


def mount_call(pod: str = "web-0") -> MountCall:
    """Return a call as the upstream driver sends it."""
    attributes = {**POD, "secretProviderClass": "web"}
    return replace(call(attributes), target_path=f"/pods/{pod}")


@asynccontextmanager
async def running(
    home: Path,
) -> AsyncIterator[tuple[DevVault, ExternalProvider, RecordingAuditLog]]:
    """Serve the Azure provider on a socket."""
    audit_log = RecordingAuditLog()
    socket = home / "azure.sock"
    async with running_devvault(home) as vault:
        vault.set_secret("contoso", "db-password", "canary-value")
        vault.add_managed_identity(MI)
        vault.grant("contoso", MI)
        provider = AzureProvider(HttpsClient(vault.emulator.https), uncached_fetcher())
        client = ExternalProvider("azure", socket, max_receive_bytes=4194304)
        async with serving_grpc(
            parse_endpoint(f"unix://{socket}"),
            lambda server: add_provider(server, provider, name="azure", audit_log=audit_log),
        ):
            yield vault, client, audit_log
            await client.close()
        await provider.close()


async def test_first_call_for_a_volume_is_a_mount(tmp_path: Path) -> None:
    """Pod, service account and SecretProviderClass are those of the call."""
    async with running(tmp_path) as (_, client, audit_log):
        await client.mount(mount_call())
        (record,) = audit_log.take()
        assert record["event"] == "mount"
        assert record["pod"] == {"namespace": "shop", "name": "web-0"}
        assert record["podUID"] == "uid-of-web-0"
        assert record["serviceAccount"] == "web"
        assert record["spc"] == {"namespace": "shop", "name": "web"}
        assert record["provider"] == "azure"
        assert [record["object"], record["outcome"]] == ["secret/db-password", "delivered"]


async def test_further_call_for_a_volume_is_a_refresh(tmp_path: Path) -> None:
    """The upstream driver calls once per rotation interval; unchanged content is no news."""
    async with running(tmp_path) as (vault, client, audit_log):
        await client.mount(mount_call())
        await client.mount(mount_call())
        assert [record["event"] for record in audit_log.take()] == ["mount", "refresh"]
        assert audit_log.unchanged == ["secret/db-password"]
        vault.set_secret("contoso", "db-password", "canary-second")
        await client.mount(mount_call())
        assert audit_log.unchanged == []
        await client.mount(mount_call("web-1"))
        assert [record["event"] for record in audit_log.take()] == ["refresh", "mount"]


async def test_failure_is_recorded(tmp_path: Path) -> None:
    """With the object."""
    async with running(tmp_path) as (vault, client, audit_log):
        vault.revoke("contoso", MI)
        with pytest.raises(KeyferryError):
            await client.mount(mount_call())
        (record,) = audit_log.take()
        assert [record["object"], record["outcome"]] == ["secret/db-password", "denied"]
