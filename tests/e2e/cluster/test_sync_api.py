"""What the SecretSync controller asks of a real Kubernetes API, with its permissions only."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml

from keyferry.aio.clock import SystemClock
from keyferry.errors import StorePolicyError
from keyferry.formats.base64url import decode_base64url
from keyferry.kubernetes.api.client import KubeApi, open_api
from keyferry.kubernetes.api.config import load_config
from keyferry.kubernetes.api.resources import SecretResource
from keyferry.kubernetes.api.syncs.cache import SyncCache
from keyferry.kubernetes.api.syncs.leader_election import LeaderElection
from keyferry.kubernetes.api.syncs.permissions import sync_rbac_remedy
from keyferry.kubernetes.api.syncs.status import write_status
from keyferry.kubernetes.api.syncs.tokens import TokenRequest, request_token
from keyferry.kubernetes.markings import SYNC_FIELD_MANAGER
from keyferry.kubernetes.syncs.conditions import next_conditions
from keyferry.kubernetes.syncs.groups import GKE_GROUP, UPSTREAM_GROUP
from keyferry.kubernetes.syncs.lease import LeaseTiming
from keyferry.kubernetes.syncs.objects import SecretSync, SyncStatus
from keyferry.kubernetes.syncs.outcomes import SyncChange, Synced
from keyferry.kubernetes.syncs.sync_errors import TokenRequestError
from keyferry.records import replace
from tests.e2e.cluster.api_server import ApiServer, running_api_server
from tests.e2e.cluster.sync_manifests import CONTROLLER, PERMISSIONS, crd, policy, role
from tests.e2e.cluster.waiting import eventually
from tests.fakes.kube_api import class_manifest
from tests.fakes.kube_objects import DEFAULT_STATUS
from tests.fakes.syncs import sync_manifest

pytestmark = [pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]

CLASS_CRD = Path(__file__).parents[3] / "deploy" / "crds" / "secretproviderclasses.yaml"
NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
WEB = (UPSTREAM_GROUP, "shop", "web")
FAST = LeaseTiming(duration=6.0, renew_deadline=4.0, retry=0.2)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ApiServer]:
    """One API server for all tests of this module, with the CRD of upstream's group."""
    async with running_api_server(tmp_path_factory.mktemp("api")) as running:
        for namespace in ("shop", "other", "keyferry"):
            await running.kubectl("create", "namespace", namespace)
        await running.kubectl("apply", f"--filename={CLASS_CRD}")
        documents = yaml.safe_dump_all([crd(UPSTREAM_GROUP), *PERMISSIONS])
        await running.kubectl("apply", "--filename=-", stdin=documents)
        names = (UPSTREAM_GROUP.resource, "secretproviderclasses.secrets-store.csi.x-k8s.io")
        for name in names:
            await running.kubectl(
                "wait", "--for=condition=Established", "--timeout=60s", f"crd/{name}"
            )
        await running.kubectl("create", "serviceaccount", "web", "--namespace=shop")
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def api(server: ApiServer) -> AsyncIterator[KubeApi]:
    """The API as the controller."""
    async with open_api(
        load_config(server.kubeconfig_of(CONTROLLER)),
        field_manager=SYNC_FIELD_MANAGER,
        rbac_remedy=sync_rbac_remedy,
    ) as opened:
        yield opened


@pytest_asyncio.fixture(loop_scope="module")
async def cache(server: ApiServer, api: KubeApi) -> AsyncIterator[SyncCache]:
    """A running cache; afterwards, the namespace shop is emptied."""
    running = SyncCache(
        api,
        groups=(UPSTREAM_GROUP, GKE_GROUP),
        namespaces=frozenset({"shop"}),
        watches_service_accounts=True,
        absent_seconds=0.5,
    )
    running.start()
    await running.wait_synced()
    yield running
    await running.stop()
    kinds = f"{UPSTREAM_GROUP.resource},secretproviderclasses,secrets"
    await server.kubectl("delete", kinds, "--all", "--namespace=shop")


async def cached(cache: SyncCache, uid_other_than: str = "") -> SecretSync:
    async def look() -> SecretSync | None:
        sync = cache.sync(WEB)
        return None if sync is None or sync.ref.uid == uid_other_than else sync

    return await eventually(look, "the SecretSync in the cache")


async def live_status(server: ApiServer) -> dict[str, Any]:
    text = await server.kubectl(
        "get", UPSTREAM_GROUP.resource, "web", "--namespace=shop", "--output=json"
    )
    status: dict[str, Any] = json.loads(text)["status"]
    return status


def synced(sync: SecretSync) -> SyncStatus:
    conditions = next_conditions(sync, Synced(SyncChange.CREATED), now=NOON)
    return replace(
        sync.status,
        conditions=conditions,
        observed_generation=sync.generation,
        sync_hash="kf1:x",
        last_success=NOON,
        observed_class="uid/4",
        observed_secret="uid/7",
    )


# --- the status -----------------------------------------------------------------------------------


async def test_status_replaces_the_default_of_the_crd(
    server: ApiServer, api: KubeApi, cache: SyncCache
) -> None:
    """Conditions of other writers stay, the generation stays, and the cache sees no change."""
    await server.kubectl.apply(sync_manifest(), namespace="shop")
    sync = await cached(cache)
    assert [(c.type, c.reason) for c in sync.status.conditions] == [("Ready", "Pending")]
    events: list[object] = []
    cache.subscribe(events.append)
    theirs = {"type": "Approved", "status": "True", "reason": "ByHand"}
    patch = {"status": {"conditions": [theirs]}}
    await server.kubectl(
        *("patch", UPSTREAM_GROUP.resource, "web", "--namespace=shop", "--type=merge"),
        *("--subresource=status", f"--patch={json.dumps(patch)}"),
    )
    written = await write_status(api, sync, synced(sync))
    assert written is not None
    status = await live_status(server)
    assert [c["type"] for c in status["conditions"]] == [
        "Ready",
        "SecretCreated",
        "SecretUpdated",
        "Approved",
    ]
    assert status["observedClass"] == {"uid": "uid", "generation": 4}

    async def echoed() -> bool | None:
        found = cache.sync(WEB)
        return True if found is not None and found.status == written.status else None

    await eventually(echoed, "the status in the cache")
    assert events == []
    assert (await cached(cache)).generation == 1
    ready = await server.kubectl(
        "wait", "--for=condition=Ready", "--namespace=shop", f"{UPSTREAM_GROUP.resource}/web"
    )
    assert "condition met" in ready
    assert await write_status(api, await cached(cache), SyncStatus(written.status.conditions))
    status = await live_status(server)
    assert status["lastSuccessfulSyncTime"] == "2030-01-01T12:00:00Z"
    assert "observedClass" not in status
    assert "syncHash" not in status


async def test_status_of_a_deleted_secret_sync_is_not_written(
    server: ApiServer, api: KubeApi, cache: SyncCache
) -> None:
    """Nor to one that was created again with its name."""
    await server.kubectl.apply(sync_manifest(), namespace="shop")
    sync = await cached(cache)
    await server.kubectl("delete", UPSTREAM_GROUP.resource, "web", "--namespace=shop")
    assert await write_status(api, sync, synced(sync)) is None
    await server.kubectl.apply(sync_manifest(), namespace="shop")
    await cached(cache, uid_other_than=sync.ref.uid)
    assert await write_status(api, sync, synced(sync)) is None
    assert await live_status(server) == DEFAULT_STATUS


# --- the cache ------------------------------------------------------------------------------------


async def test_secrets_with_the_label_are_watched(server: ApiServer, cache: SyncCache) -> None:
    """By the existence of the label, and only in the namespaces of the controller."""
    for namespace in ("shop", "other"):
        for name in ("web", "unlabelled"):
            await server.kubectl("create", "secret", "generic", name, f"--namespace={namespace}")
        await server.kubectl(
            *("label", "secret", "web", f"--namespace={namespace}"), "secrets-store.sync.x-k8s.io="
        )

    async def known() -> str | None:
        return cache.secret_version("shop", "web")

    first = await eventually(known, "the Secret")
    await server.kubectl("annotate", "secret", "web", "--namespace=shop", "a=b")

    async def changed() -> bool | None:
        return True if cache.secret_version("shop", "web") != first else None

    await eventually(changed, "the change of the Secret")
    assert cache.secret_version("shop", "unlabelled") is None
    assert cache.secret_version("other", "web") is None
    await server.kubectl("delete", "secret", "web", "unlabelled", "--namespace=other")


async def test_service_accounts_with_the_label_are_watched(
    server: ApiServer, cache: SyncCache
) -> None:
    """They permit SecretSyncs to use them."""
    assert cache.service_account("shop", "web") is None
    label = ("label", "serviceaccount", "web", "--namespace=shop")
    await server.kubectl(*label, "secret-sync.x-k8s.io/allowed=true")

    async def permitted() -> bool | None:
        return True if cache.service_account("shop", "web") else None

    await eventually(permitted, "the service account")
    await server.kubectl(*label, "secret-sync.x-k8s.io/allowed-")

    async def denied() -> bool | None:
        return None if cache.service_account("shop", "web") else True

    await eventually(denied, "the service account without its label")


async def test_class_and_crd_that_are_created_later_are_found(
    server: ApiServer, cache: SyncCache
) -> None:
    """The CRD of another group is not needed until then."""
    assert cache.absent_groups() == (GKE_GROUP,)
    assert cache.problem() is None
    spec = {"provider": "azure", "parameters": {"keyvaultName": "contoso"}}
    await server.kubectl.apply({**class_manifest("web"), "spec": spec}, namespace="shop")

    async def has_class() -> bool | None:
        return True if cache.class_("shop", "web") else None

    await eventually(has_class, "the SecretProviderClass")
    await server.kubectl.apply(crd(GKE_GROUP))
    try:
        await server.kubectl(
            "wait", "--for=condition=Established", "--timeout=60s", f"crd/{GKE_GROUP.resource}"
        )
        await server.kubectl.apply(sync_manifest(api_version=str(GKE_GROUP)), namespace="shop")

        async def found() -> bool | None:
            return True if cache.sync((GKE_GROUP, "shop", "web")) else None

        await eventually(found, "the SecretSync of the other group")
    finally:
        await server.kubectl("delete", "crd", GKE_GROUP.resource)


# --- tokens ---------------------------------------------------------------------------------------


def claims(token: str) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(decode_base64url(token.split(".")[1]))
    return decoded


async def test_token_has_one_audience(api: KubeApi) -> None:
    """It is bound to the service account only, and lives for ten minutes."""
    issued = await request_token(api, TokenRequest("shop", "web", "vault"))
    found = claims(issued.token)
    assert found["aud"] == ["vault"]
    assert found["sub"] == "system:serviceaccount:shop:web"
    assert "pod" not in found["kubernetes.io"]
    assert issued.seconds == 600
    assert issued.expires_at.timestamp() == found["exp"]


async def test_token_is_bound_to_a_node(server: ApiServer, api: KubeApi) -> None:
    """The API server adds the uid of the node."""
    await server.kubectl.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1"}})
    issued = await request_token(api, TokenRequest("shop", "web", "vault", node="node-1"))
    assert claims(issued.token)["kubernetes.io"]["node"]["name"] == "node-1"
    with pytest.raises(TokenRequestError, match="it or the node node-2 does not exist"):
        await request_token(api, TokenRequest("shop", "web", "vault", node="node-2"))


async def test_refused_token_has_a_remedy(server: ApiServer, api: KubeApi) -> None:
    """A missing account, a namespace that is not listed, and one that is being deleted."""
    with pytest.raises(TokenRequestError, match=r"shop/missing does not exist\. Create it"):
        await request_token(api, TokenRequest("shop", "missing", "vault"))
    leaving = role("sync", "Role", ("", "serviceaccounts/token", "create"), namespace="leaving")
    await server.kubectl("create", "namespace", "leaving")
    await server.kubectl("create", "serviceaccount", "web", "--namespace=leaving")
    await server.kubectl.apply(*leaving, namespace="leaving")
    await server.kubectl("delete", "namespace", "leaving", "--wait=false")
    with pytest.raises(TokenRequestError, match="namespace leaving is being deleted"):
        await request_token(api, TokenRequest("leaving", "web", "vault"))
    with pytest.raises(TokenRequestError, match=r"add other to secretSync\.namespaces"):
        await request_token(api, TokenRequest("other", "web", "vault"))


async def test_denial_of_a_policy_is_recognized(server: ApiServer, api: KubeApi) -> None:
    """For tokens, with the remedy for the policy of the chart; and for Secrets."""
    policies = [
        *policy("keyferry-sync-token-opt-in", "serviceaccounts/token", "canary: no token"),
        *policy("company-secrets", "secrets", "canary: no Secret"),
    ]
    await server.kubectl.apply(*policies)
    names = [f"{document['kind']}/{document['metadata']['name']}" for document in policies]
    try:

        async def denied() -> TokenRequestError | None:
            try:
                await request_token(api, TokenRequest("shop", "web", "vault"))
            except TokenRequestError as error:
                return error
            return None

        error = await eventually(denied, "the policy for tokens")
        assert "admission policy keyferry-sync-token-opt-in denied it" in error.problem
        assert error.remedy.endswith("serviceaccount web secret-sync.x-k8s.io/allowed=true")
        assert "canary" not in str(error)
        secret: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "web", "namespace": "shop"},
            "type": "Opaque",
        }

        async def rejected() -> StorePolicyError | None:
            try:
                await api.apply(SecretResource, "shop", "web", secret, force=True)
            except StorePolicyError as error:
                return error
            return None

        refusal = await eventually(rejected, "the policy for Secrets")
        assert "admission policy company-secrets denied it" in refusal.problem
        assert "canary" not in str(refusal)
    finally:
        await server.kubectl("delete", *names)
        await server.kubectl("delete", "secret", "web", "--namespace=shop", "--ignore-not-found")


# --- leader election ------------------------------------------------------------------------------


class Candidate:
    """A controller that takes part in the election."""

    def __init__(self, api: KubeApi, name: str) -> None:
        self.election = LeaderElection(
            api,
            namespace="keyferry",
            name="keyferry-sync",
            identity=name,
            clock=SystemClock(),
            timing=FAST,
        )
        self.works = False
        self.task = asyncio.create_task(self.election.run(self._work))

    async def _work(self) -> None:
        self.works = True
        try:
            await asyncio.Event().wait()
        finally:
            self.works = False

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])


async def test_one_of_two_candidates_leads(server: ApiServer, api: KubeApi) -> None:
    """Also after a restart of the API server, and after the leader has released the Lease."""
    candidates = [Candidate(api, "one"), Candidate(api, "two")]

    async def leader() -> Candidate | None:
        leading = [candidate for candidate in candidates if candidate.works]
        assert len(leading) <= 1
        return leading[0] if leading else None

    async def none() -> bool | None:
        return None if any(candidate.works for candidate in candidates) else True

    try:
        await eventually(leader, "a leader")
        await server.stop()
        await eventually(none, "the leader to stop, because the API is unavailable")
        await server.start()
        first = await eventually(leader, "a leader after the restart")
        await first.stop()
        second = await eventually(leader, "another leader")
        assert second is not first
        text = await server.kubectl(
            "get", "lease", "keyferry-sync", "--namespace=keyferry", "--output=json"
        )
        spec = json.loads(text)["spec"]
        assert spec["holderIdentity"] == second.election.identity
        assert spec["leaseDurationSeconds"] == 6
    finally:
        for candidate in candidates:
            await candidate.stop()
