"""A small Kubernetes API, and a client of it as the controller has it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from keyferry.kubernetes.api.client import KubeApi, open_api
from keyferry.kubernetes.api.config import load_config
from keyferry.kubernetes.api.syncs.permissions import sync_rbac_remedy
from keyferry.kubernetes.markings import SYNC_FIELD_MANAGER
from tests.fakes.kube_api import KubeApiServer, running_api


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[KubeApiServer]:
    """A server without objects."""
    async with running_api(tmp_path) as running:
        yield running


@pytest.fixture
async def api(server: KubeApiServer) -> AsyncIterator[KubeApi]:
    """Its client."""
    async with open_api(
        load_config(server.kubeconfig),
        field_manager=SYNC_FIELD_MANAGER,
        rbac_remedy=sync_rbac_remedy,
    ) as opened:
        yield opened
