"""Workloads: StatefulSets, Jobs, CronJobs and Deployments."""

from __future__ import annotations

import pytest

from tests.e2e.cluster.manifests import (
    VAULT,
    azure_class,
    cron_job,
    deployment,
    job,
    secret_object,
    stateful_set,
)
from tests.e2e.cluster.namespace import Namespace
from tests.e2e.cluster.secret_watch import watching_secret
from tests.e2e.cluster.side_by_side import scenario
from tests.e2e.cluster.waiting import eventually

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]


@scenario("stateful-set")
async def test_a_recreated_pod_of_a_stateful_set_gets_current_values(shop: Namespace) -> None:
    """The new pod has its own volume and pod status, with the current content of the vault."""
    vault = shop.installed.vault
    vault.set_secret(VAULT, "stateful-set", "first")
    synced = [secret_object("db", {"password": "file"})]
    await shop.apply(
        azure_class("db", {"stateful-set": "file"}, secret_objects=synced),
        stateful_set("db", "db", env={"PASSWORD": ("db", "password")}),
    )
    await shop.ready("db-0")
    first = (await shop.get("pod", "db-0"))["metadata"]["uid"]
    assert "first" == await shop.read("db-0", "/mnt/db/file")
    version = await shop.new_version("stateful-set", "second")
    await shop.delete("pod", "db-0")

    async def recreated() -> bool | None:
        current = await shop.get("pod", "db-0")
        return current["metadata"]["uid"] != first or None

    await eventually(recreated, "a new pod db-0")
    await shop.ready("db-0")
    assert "second" == await shop.read("db-0", "/mnt/db/file")
    assert "second" == await shop.run("db-0", "sh", "-c", 'printf %s "$PASSWORD"')
    assert {"secret/stateful-set": version} == await shop.versions("db-0", "db")
    second = (await shop.get("pod", "db-0"))["metadata"]["uid"]
    status = await shop.get("secretproviderclasspodstatus", "db-0-stateful-set-db")
    assert [second] == [each["uid"] for each in status["metadata"]["ownerReferences"]]


@scenario("jobs")
async def test_a_job_reads_the_current_values_at_its_start(shop: Namespace) -> None:
    """Two runs with a rotation between them; completed pods have no mounts."""
    shop.installed.vault.set_secret(VAULT, "jobs", "first")
    await shop.apply(azure_class("batch", {"jobs": "file"}))
    for value in ("first", "second"):
        if value == "second":
            await shop.new_version("jobs", value)
        await shop.apply(job(f"run-{value}", "batch", command="cat /mnt/batch/file"))
        await shop.wait("condition=Complete", f"job/run-{value}")
        assert value == await shop.kubectl("logs", f"job/run-{value}")
    for each in (await shop.get("pods"))["items"]:
        await shop.volumes_removed(each["metadata"]["uid"])


@scenario("cron-job")
async def test_a_cron_job_reads_current_values_in_each_run(shop: Namespace) -> None:
    """The first run is scheduled, the second one is started manually."""
    vault = shop.installed.vault
    vault.set_secret(VAULT, "cron-job", "first")
    await shop.apply(
        azure_class("batch", {"cron-job": "file"}),
        cron_job("report", "batch", command="cat /mnt/batch/file"),
    )

    async def done() -> str | None:
        jobs = (await shop.get("jobs"))["items"]
        ran = [each["metadata"]["name"] for each in jobs if each["status"].get("succeeded")]
        return ran[0] if ran else None

    by_clock = await eventually(done, "the run at the full minute", pause=2.0)
    assert "first" == await shop.kubectl("logs", f"job/{by_clock}")
    await shop.new_version("cron-job", "second")
    await shop.kubectl("create", "job", "by-hand", "--from=cronjob/report")
    await shop.wait("condition=Complete", "job/by-hand")
    assert "second" == await shop.kubectl("logs", "job/by-hand")


@scenario("replicas")
async def test_a_secret_survives_while_its_deployment_is_scaled_to_zero(shop: Namespace) -> None:
    """Three replicas share one Secret, with one UID for as long as the Deployment exists."""
    shop.installed.vault.set_secret(VAULT, "replicas", "s3cret")
    synced = [secret_object("web", {"password": "file"})]
    await shop.apply(
        azure_class("web", {"replicas": "file"}, secret_objects=synced),
        deployment("web", "web", replicas=3, env={"PASSWORD": ("web", "password")}),
    )
    await shop.kubectl("rollout", "status", "deployment/web", "--timeout=120s")
    assert {"password": "s3cret"} == await shop.secret_data("web")
    async with watching_secret(shop, "web") as watch:
        for _ in range(2):
            await shop.kubectl("scale", "deployment/web", "--replicas=0")
            await shop.wait("delete", "pods", "--all")
            await shop.kubectl("scale", "deployment/web", "--replicas=3")
            await shop.kubectl("rollout", "status", "deployment/web", "--timeout=120s")
            assert 3 == len(await shop.pods("web"))
        assert "DELETED" not in watch.kinds()
        assert 1 == len(watch.uids())
    await shop.delete("deployment", "web")
    await shop.secret_removed("web")
