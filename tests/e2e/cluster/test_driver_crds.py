"""The CRDs of the driver in a real API server: what `kubectl get` shows of their objects."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml

from tests.e2e.cluster.api_server import ApiServer, running_api_server

pytestmark = [pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]

CRDS = Path(__file__).parents[3] / "deploy" / "crds"
API_VERSION = "secrets-store.csi.x-k8s.io/v1"
LONG_AGO = "2000-01-01T00:00:00Z"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ApiServer]:
    """One API server with the CRDs for all tests of this module."""
    async with running_api_server(tmp_path_factory.mktemp("api")) as running:
        await running.kubectl("apply", "--server-side", f"--filename={CRDS}")
        await running.kubectl("wait", "--for=condition=Established", "crd", "--all")
        yield running


async def row(server: ApiServer, *arguments: str) -> dict[str, str]:
    """The columns of the only row that `kubectl get` prints."""
    head, line = (await server.kubectl("get", *arguments)).splitlines()
    head = head.replace("LAST REFRESH", "LAST_REFRESH")
    names = head.split()
    starts = [head.index(name) for name in names]
    ends = [*starts[1:], len(line)]
    cells = [line[start:end].strip() for start, end in zip(starts, ends, strict=True)]
    return dict(zip(names, cells, strict=True))


async def create(server: ApiServer, kind: str, name: str, **fields: Any) -> None:
    """Create an object in the default namespace."""
    manifest = {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, **fields}
    await server.kubectl("create", "--filename=-", stdin=yaml.safe_dump(manifest))


async def test_classes_are_listed_with_their_provider(server: ApiServer) -> None:
    await create(server, "SecretProviderClass", "web", spec={"provider": "azure"})
    shown = await row(server, "spc", "web")
    assert ["NAME", "PROVIDER", "AGE"] == list(shown)
    assert ("web", "azure") == (shown["NAME"], shown["PROVIDER"])
    assert shown["AGE"]


async def test_pod_statuses_are_listed_with_their_last_refresh(server: ApiServer) -> None:
    """Without a refresh, and with one that failed."""
    status = {"podName": "web-0", "secretProviderClassName": "web", "mounted": True}
    await create(server, "SecretProviderClassPodStatus", "new", status=status)
    failed = {
        "type": "Refreshed",
        "status": "False",
        "reason": "AccessDenied",
        "message": "no",
        "lastTransitionTime": LONG_AGO,
    }
    refreshed = {**status, "conditions": [failed], "lastRefreshTime": LONG_AGO}
    await create(server, "SecretProviderClassPodStatus", "old", status=refreshed)
    head = ["NAME", "POD", "SECRETPROVIDERCLASS", "REFRESHED", "LAST_REFRESH", "AGE"]
    new, old = await row(server, "spcps", "new"), await row(server, "spcps", "old")
    assert head == list(new) == list(old)
    assert ["new", "web-0", "web", "", ""] == list(new.values())[:-1]
    assert ["old", "web-0", "web", "False"] == list(old.values())[:-2]
    assert old["LAST_REFRESH"].endswith("y")
    wide = await row(server, "spcps", "old", "--output=wide")
    assert "AccessDenied" == wide["REASON"]
