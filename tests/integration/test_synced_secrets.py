"""The Secrets of SecretSyncs, over an emulated Kubernetes API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from keyferry.kubernetes.api.client import open_api
from keyferry.kubernetes.api.config import load_config
from tests.fakes.kube_api import running_api
from tests.fakes.synced_secret_suite import SyncedSecretContract
from tests.fakes.synced_secrets import SyncedSecretCluster


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[SyncedSecretCluster]:
    async with running_api(tmp_path) as server, open_api(load_config(server.kubeconfig)) as api:
        yield SyncedSecretCluster(api)


class TestSyncedSecrets(SyncedSecretContract):
    """The common suite with an emulated API."""
