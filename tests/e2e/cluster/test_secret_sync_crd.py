"""The CRDs of SecretSyncs in a real API server, and how Helm installs, updates and keeps them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
import yaml

from tests.e2e.cluster.secret_sync_api import (
    CRD,
    VALUES,
    Api,
    denied,
    running_chart,
    secret_sync,
    synced,
)
from tests.unit.chart.values import CHART, merged

pytestmark = [pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]

PLAIN_CRD = Path(__file__).parents[3] / "deploy" / "crds" / "secretsyncs.yaml"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Api]:
    """One API server with the chart for all tests of this module."""
    async with running_chart(tmp_path_factory.mktemp("api")) as running:
        yield running


@pytest.mark.parametrize("group", ["secret-sync.x-k8s.io/v1alpha1", "secret-sync.gke.io/v1"])
async def test_a_new_secret_sync_is_not_ready(api: Api, group: str) -> None:
    """Before the controller has seen it: tools that wait for Ready would otherwise go on."""
    kind = f"secretsyncs.{group.partition('/')[0]}"
    await api.user("create", "--filename=-", stdin=secret_sync("fresh", group))
    fresh = await api.get(kind, "fresh")
    assert "Opaque" == fresh["spec"]["secretObject"]["type"]
    assert "" == fresh["spec"]["secretSyncControllerName"]
    assert fresh["status"]["conditions"] == [
        {
            "type": "Ready",
            "status": "Unknown",
            "reason": "Pending",
            "message": "Waiting for the controller.",
            "lastTransitionTime": "1970-01-01T00:00:00Z",
        }
    ]
    now = "2030-01-01T00:00:00Z"
    ready = {"type": "Ready", "status": "True", "reason": "Synced", "message": ""}
    status = {
        "conditions": [{**ready, "lastTransitionTime": now, "observedGeneration": 1}],
        "observedGeneration": 1,
        "syncHash": "kf1:0a",
        "lastSuccessfulSyncTime": now,
        "lastAttemptTime": now,
        "leaseHolder": "keyferry-sync-0",
        "objects": [{"id": "secret/password", "version": "1", "expires": now}],
        "observedForceSynchronization": "x2",
        "observedRefresh": "now",
        "observedClass": {"uid": "a", "generation": 3},
        "observedSecret": {"uid": "b", "resourceVersion": "7"},
    }
    written = {"apiVersion": group, "kind": "SecretSync", "metadata": {"name": "fresh"}}
    assert "serverside-applied" in await api.apply(
        {**written, "status": status}, "--subresource=status"
    )
    assert status == (await api.get(kind, "fresh"))["status"]


async def test_secret_syncs_are_listed_with_their_state(api: Api) -> None:
    """By their short name, and with everything of Keyferry."""
    await api.user("create", "--filename=-", stdin=secret_sync("listed"))
    head, *rows = (await api.user("get", "ssync", "listed")).splitlines()
    assert ["NAME", "CLASS", "SECRET", "TYPE", "READY", "REASON", "SYNCED", "AGE"] == head.split()
    assert ["listed", "web", "Opaque", "Unknown", "Pending"] == rows[0].split()[:5]
    assert "listed" in await api.user("get", "keyferry")


UPSTREAM_ACCEPTS = ["password", "db-password", "a.b-c_d", ".a", "x/1/2", "a/0", "."]
"""By the pattern of its CRD, for sourcePath and targetKey."""


@pytest.mark.parametrize(
    "path", [*UPSTREAM_ACCEPTS, "database/password", "cert/tls.crt", "DB__PASS", "a.b", "_x", "a_"]
)
async def test_paths_that_a_secret_provider_class_can_define_are_accepted(
    api: Api, path: str
) -> None:
    """Upstream refuses many of them."""
    data = [{"sourcePath": path, "targetKey": "key"}]
    assert "created" in await api.sync(secret_sync("paths", data=data))


@pytest.mark.parametrize("path", ["", "/a", "a/", "a//b", "..", "../a", "a/../b", "a/./b", "a/.."])
async def test_paths_out_of_the_volume_are_refused(api: Api, path: str) -> None:
    """As no SecretProviderClass can define them."""
    data = [{"sourcePath": path, "targetKey": "key"}]
    assert "sourcePath" in await denied(api.sync(secret_sync("paths", data=data)))


@pytest.mark.parametrize("key", [*UPSTREAM_ACCEPTS, "DB__PASS", "a.b", "_x", "a_", "tls.crt", "-"])
async def test_keys_of_secrets_are_accepted(api: Api, key: str) -> None:
    """And those that upstream accepts, although no Secret can have some of them."""
    data = [{"sourcePath": "a", "targetKey": key}]
    assert "created" in await api.sync(secret_sync("keys", data=data))


@pytest.mark.parametrize("key", ["", "a b", "a/b", "ä", "a:b", "x" * 254])
async def test_keys_that_no_secret_has_are_refused(api: Api, key: str) -> None:
    """Before the controller would report them."""
    data = [{"sourcePath": "a", "targetKey": key}]
    assert "targetKey" in await denied(api.sync(secret_sync("keys", data=data)))


async def test_labels_and_annotations_are_limited_as_upstream(api: Api) -> None:
    """Those of the controller are reserved."""
    long = {"a" * 317: "b" * 63}
    assert "created" in await api.sync(secret_sync("labels", of_secret={"labels": long}))
    assert "created" in await api.sync(
        secret_sync("labels", of_secret={"annotations": {"a" * 316: "b" * 262144}})
    )
    for part, wrong, said in (
        ("labels", {"a": "b" * 64}, "and its value at most 63"),
        ("labels", {"a" * 318: "b"}, "at most 317 characters"),
        ("labels", {"secrets-store.sync.x-k8s.io/a": "b"}, "are reserved for the controller"),
        ("annotations", {"a" * 317: "b"}, "at most 316 characters"),
        ("annotations", {"a": "b" * 262145}, "at most 256 KiB"),
        ("annotations", {"secrets-store.sync.x-k8s.io": ""}, "are reserved for the controller"),
    ):
        assert said in await denied(api.sync(secret_sync("labels", of_secret={part: wrong})))


async def test_required_fields_are_those_of_upstream(api: Api) -> None:
    """Each key of the Secret once."""
    for missing in ("secretProviderClassName", "serviceAccountName", "secretObject"):
        manifest = secret_sync("fields")
        del manifest["spec"][missing]
        assert missing in await denied(api.sync(manifest))
    assert "data" in await denied(api.sync(secret_sync("fields", data=[])))
    twice = [{"sourcePath": each, "targetKey": "key"} for each in ("a", "b")]
    assert "Duplicate value" in await denied(api.sync(secret_sync("fields", data=twice)))
    forced = secret_sync("fields")
    forced["spec"] |= {"forceSynchronization": "x2", "secretSyncControllerName": "keyferry"}
    assert "created" in await api.sync(forced)


async def test_an_uninstall_keeps_secret_syncs_and_another_installation_updates_the_crd(
    api: Api,
) -> None:
    """The last test: the policies do not exist afterwards."""
    await api.user("create", "--filename=-", stdin=secret_sync("kept"))
    await api.user("create", "--filename=-", stdin=synced("kept"))
    await api.helm("uninstall", "keyferry")
    await api.get(CRD, "kept")
    await api.get("secret", "kept")
    policies = await api.server.kubectl("get", "validatingadmissionpolicies", "--output=name")
    assert "keyferry" not in policies

    async def rendered(mode: str, release: str = "keyferry") -> tuple[bool, str]:
        changed = merged(VALUES, {"secretSync": {"crd": mode}})
        said = await api.helm("install", release, str(CHART), "--dry-run=server", values=changed)
        return f"name: {CRD}" in said, said.partition("NOTES:")[2]

    own = [(await rendered(mode))[0] for mode in ("auto", "keep", "skip")]
    assert [True, False, False] == own
    upstream = yaml.safe_load(PLAIN_CRD.read_text())
    installed, notes = await rendered("auto", release="another")
    assert not installed
    assert f"The CRD {CRD} was not installed by this release, so Helm does not update it" in notes
    assert "refuses some paths" not in notes
    await api.server.kubectl("delete", "crd", CRD)
    fields = upstream["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]
    del fields["properties"]["observedForceSynchronization"]
    await api.server.kubectl("create", "--filename=-", stdin=yaml.safe_dump(upstream))
    installed, notes = await rendered("auto")
    assert not installed
    assert "refuses some paths. To replace it: kubectl apply" in notes
    await api.server.kubectl("delete", "crd", CRD)
    absent = [(await rendered(mode))[0] for mode in ("auto", "keep", "skip")]
    assert [True, True, False] == absent
    assert f"The cluster has no CRD {CRD}" in (await rendered("skip"))[1]
    with pytest.raises(AssertionError, match="kubectl create namespace nowhere"):
        await api.helm(
            "install", "keyferry", str(CHART), "--dry-run=server",
            values=merged(VALUES, {"secretSync": {"namespaces": ["nowhere"]}}),
        )  # fmt: skip
