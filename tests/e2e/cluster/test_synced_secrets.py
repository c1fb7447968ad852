"""The Secrets of SecretSyncs, with a real Kubernetes API."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from keyferry.kubernetes.api.client import open_api
from keyferry.kubernetes.api.config import load_config
from tests.e2e.cluster.api_server import ApiServer, running_api_server
from tests.fakes.synced_secret_suite import SyncedSecretContract
from tests.fakes.synced_secrets import SyncedSecretCluster

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.asyncio(loop_scope="module"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ApiServer]:
    """One API server for all tests of this module."""
    async with running_api_server(tmp_path_factory.mktemp("api")) as running:
        await running.kubectl("create", "namespace", "shop")
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def cluster(server: ApiServer) -> AsyncIterator[SyncedSecretCluster]:
    """A new client for each test; afterwards, the namespace is emptied."""
    async with open_api(load_config(server.kubeconfig)) as api:
        yield SyncedSecretCluster(api)
    await server.kubectl("delete", "secrets", "--all", "--namespace=shop")


class TestSyncedSecrets(SyncedSecretContract):
    """The common suite with a real API."""
