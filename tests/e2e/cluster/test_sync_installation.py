"""The SecretSync controller, installed with Helm on a real cluster, without the driver."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import pytest_asyncio
import yaml

from tests.e2e.cluster.kubectl import Document
from tests.e2e.cluster.sync_installation import (
    NAMESPACE,
    SHOP,
    Installed,
    running_sync_installation,
    secret_sync,
)
from tests.e2e.cluster.waiting import eventually
from tests.fakes.cli_ui import running_ui

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(600)]

ACCOUNT = "system:serviceaccount:keyferry:keyferry-sync"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def installed() -> AsyncIterator[Installed]:
    """One cluster for all tests of this module."""
    with TemporaryDirectory(prefix="keyferry-") as folder:
        async with running_sync_installation(Path(folder)) as running:
            yield running


async def test_nothing_of_the_driver_is_installed(installed: Installed) -> None:
    """Two Pods without privileges, so that any other driver stays as it is."""
    for kind in ("daemonsets", "csidrivers"):
        found = await installed.kubectl.get(kind, "--all-namespaces")
        assert [] == found["items"]
    pods = await installed.kubectl.get("pods", f"--namespace={NAMESPACE}")
    assert 2 == len(pods["items"])
    for pod in pods["items"]:
        assert "hostPath" not in yaml.safe_dump(pod["spec"]["volumes"])
        context = pod["spec"]["containers"][0]["securityContext"]
        assert {"drop": ["ALL"]} == context["capabilities"]
        assert not context["allowPrivilegeEscalation"]


async def test_a_secret_lives_as_long_as_its_secret_sync(installed: Installed) -> None:
    """Created with the token of its service account, repaired, and deleted with it."""
    await installed.kubectl.apply(secret_sync("web"), namespace=SHOP)
    await installed.ready("web")
    secret = await installed.secret("web")
    assert {"password": "czNjcmV0"} == secret["data"]
    (owner,) = secret["metadata"]["ownerReferences"]
    assert ("SecretSync", "web") == (owner["kind"], owner["name"])

    await installed.kubectl("delete", "secret", "web", f"--namespace={SHOP}")
    await installed.kubectl(
        "wait", "--for=create", "secret/web", f"--namespace={SHOP}", "--timeout=30s"
    )
    uid = (await installed.secret("web"))["metadata"]["uid"]
    assert uid != secret["metadata"]["uid"]

    await installed.kubectl("delete", "secretsync", "web", f"--namespace={SHOP}")
    await installed.kubectl(
        "wait", "--for=delete", "secret/web", f"--namespace={SHOP}", "--timeout=60s"
    )


async def test_an_orphaned_secret_stays_and_is_taken_again(installed: Installed) -> None:
    """With --cascade=orphan; another SecretSync of the name owns it later."""
    await installed.kubectl.apply(secret_sync("orphan"), namespace=SHOP)
    await installed.ready("orphan")
    uid = (await installed.secret("orphan"))["metadata"]["uid"]
    await installed.kubectl(
        *("delete", "secretsync", "orphan", f"--namespace={SHOP}", "--cascade=orphan")
    )
    await installed.kubectl.apply(secret_sync("orphan"), namespace=SHOP)
    await installed.ready("orphan")
    secret = await installed.secret("orphan")
    assert uid == secret["metadata"]["uid"]
    (owner,) = secret["metadata"]["ownerReferences"]
    sync = await installed.kubectl.get("secretsync", "orphan", f"--namespace={SHOP}")
    assert sync["metadata"]["uid"] == owner["uid"]


async def test_another_type_recreates_the_secret(installed: Installed) -> None:
    """The admission policies permit exactly that deletion."""
    await installed.kubectl.apply(secret_sync("typed"), namespace=SHOP)
    await installed.ready("typed")
    basic = {
        "type": "kubernetes.io/basic-auth",
        "data": [{"sourcePath": "db", "targetKey": "password"}],
    }
    await installed.kubectl.apply(secret_sync("typed", secretObject=basic), namespace=SHOP)

    async def changed() -> bool | None:
        found = await installed.kubectl(
            *("get", "secret", "typed", f"--namespace={SHOP}", "--ignore-not-found"),
            "--output=jsonpath={.type}",
        )
        return found == "kubernetes.io/basic-auth" or None

    await eventually(changed, "the Secret to have the new type")


async def test_a_namespace_that_is_not_listed_is_named_with_the_remedy(
    installed: Installed,
) -> None:
    """The user never sees a raw Forbidden."""
    await installed.kubectl.apply(secret_sync("web"), namespace="other")
    await installed.condition("web", "other", "Add the namespace to secretSync.namespaces")
    sync = await installed.kubectl.get("secretsync", "web", "--namespace=other")
    assert "orbidden" not in yaml.safe_dump(sync["status"])


async def test_policies_bind_the_service_account_of_the_controller(installed: Installed) -> None:
    """Even where its Role would permit more."""
    with pytest.raises(AssertionError, match=r"owner|SecretSync"):
        await installed.kubectl(
            *("create", "secret", "generic", "stolen", f"--namespace={SHOP}", f"--as={ACCOUNT}")
        )
    with pytest.raises(AssertionError, match=r"audience|600"):
        await installed.kubectl(
            *("create", "token", "web", f"--namespace={SHOP}", "--audience=https://example.com"),
            f"--as={ACCOUNT}",
        )


async def test_the_next_replica_takes_over(installed: Installed) -> None:
    """A deleted leader releases its Lease, and its successor syncs what changes.

    Both make the versions of objects with the same HMAC key, so nothing looks rotated.
    """
    before = await installed.kubectl.get("secretsync", "orphan", f"--namespace={SHOP}")
    leader = await _leader(installed)
    await installed.kubectl("delete", "pod", leader, f"--namespace={NAMESPACE}", "--wait=false")

    async def taken_over() -> bool | None:
        return await _leader(installed) not in {"", leader} or None

    await eventually(taken_over, "another replica to hold the Lease")
    await installed.kubectl.apply(secret_sync("after-takeover"), namespace=SHOP)
    await installed.ready("after-takeover")
    assert leader != await _leader(installed)
    await installed.kubectl(
        *("annotate", "secretsync", "orphan", f"--namespace={SHOP}", "keyferry.dev/refresh=1")
    )

    async def refreshed() -> Document | None:
        found = await installed.kubectl.get("secretsync", "orphan", f"--namespace={SHOP}")
        return found if found["status"].get("observedRefresh") else None

    after = await eventually(refreshed, "the refresh by the next leader")
    for field in ("syncHash", "objects", "observedSecret"):
        assert before["status"][field] == after["status"][field]


async def _leader(installed: Installed) -> str:
    """Return the name of the pod that holds the Lease; "" if none does."""
    lease = await installed.kubectl.get("lease", "keyferry-sync", f"--namespace={NAMESPACE}")
    return str(lease["spec"].get("holderIdentity", "")).partition("_")[0]


async def test_service_accounts_must_opt_in(installed: Installed, tmp_path: Path) -> None:
    """With the value; the label of the service account is enough."""
    await installed.install(tmp_path, serviceAccountOptIn=True)
    await installed.kubectl.apply(secret_sync("opted"), namespace=SHOP)
    await installed.condition("opted", SHOP, "secret-sync.x-k8s.io/allowed")
    await installed.kubectl(
        *("label", "serviceaccount", "web", f"--namespace={SHOP}"),
        "secret-sync.x-k8s.io/allowed=true",
    )
    await installed.ready("opted")


async def test_status_page_is_forwarded_to_a_replica(installed: Installed, tmp_path: Path) -> None:
    """It shows the SecretSyncs of the cluster and the metrics of both replicas, and no value."""
    await installed.install(tmp_path, serviceAccountOptIn=True, statusPage={"enabled": True})
    async with running_ui(installed.cluster.kubeconfig, "--namespace", NAMESPACE) as ui:
        workloads = await ui.get("workloads")

        async def settled() -> str | None:
            page = await ui.get("vaults")
            assert 2 == page.count("sync-controller</span>"), page
            assert "leader" in page, page
            assert "no answer" not in page, page
            return page

        vaults = await eventually(settled, "two replicas, one of which leads")
        messages = await ui.end()
    assert "Forwarding to pod keyferry/keyferry-sync-" in messages
    for name in ("opted", "orphan", "after-takeover"):
        assert name in workloads
    assert "may not list" not in workloads + vaults
    assert "s3cret" not in workloads + vaults
    async with running_ui(installed.cluster.kubeconfig, "--local", "-n", SHOP) as ui:
        page = await ui.get("workloads")
        await ui.end()
    assert "opted" in page
    assert ">other</a>" not in page


async def test_an_uninstall_keeps_secrets(installed: Installed) -> None:
    """Also the SecretSyncs, so that an installation continues where the last one ended."""
    before = (await installed.secret("orphan"))["metadata"]["uid"]
    await installed.helm("uninstall", "keyferry", "--wait")
    assert before == (await installed.secret("orphan"))["metadata"]["uid"]
    sync = await installed.kubectl.get("secretsync", "orphan", f"--namespace={SHOP}")
    assert "deletionTimestamp" not in sync["metadata"]
