"""Diagnoses a pod, a SecretProviderClass or a SecretSync of a cluster."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, assert_never

import click
from msgspec import Struct

from keyferry.cli.cluster.connection import open_cluster, pod_streams
from keyferry.cli.cluster.targets import TargetKind
from keyferry.cli.console import console
from keyferry.cli.diagnosis.probing import ProbeSettings, probe_tools
from keyferry.cli.exit_codes import exit_code
from keyferry.doctor.checks import DoctorStage
from keyferry.doctor.cluster import ClusterTargets
from keyferry.doctor.node import DRIVER, SYNC_CONTROLLER, find_keyferry_pod, probe_on_node
from keyferry.doctor.preparation import stopped
from keyferry.doctor.probe import run_probe
from keyferry.doctor.request import DEFAULT_SECONDS
from keyferry.errors import KeyferryError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from keyferry.cli.cluster.connection import Cluster, ClusterOptions
    from keyferry.cli.cluster.targets import Target
    from keyferry.cli.local.options import LocalOptions
    from keyferry.doctor.checks import Check, Report
    from keyferry.doctor.preparation import Prepared

DEFAULT_SERVICE_ACCOUNT = "default"


class ClusterJob(Struct, frozen=True):
    """What to diagnose, and where from.

    Attributes:
        target: the object.
        cluster: the options of the connection.
        options: of requests to vaults from this machine.
        service_account: for a SecretProviderClass; None for the default one.
        from_node: whether the probe runs in a pod of Keyferry.
        node: the node of that pod; None for that of the target, or any.
        driver_namespace: where pods of Keyferry are; None to search all namespaces.
    """

    target: Target
    cluster: ClusterOptions
    options: LocalOptions
    service_account: str | None = None
    from_node: bool = False
    node: str | None = None
    driver_namespace: str | None = None


async def diagnose_object(job: ClusterJob) -> list[Report]:
    """Return a report for each volume, or for the SecretSync.

    Raises:
        click.UsageError: an option does not fit the kind of the object.
        StoreError: the Kubernetes API is unavailable.
    """
    if job.service_account and job.target.kind is not TargetKind.CLASS:
        raise click.UsageError("--service-account needs secretproviderclass/NAME")
    if job.node and not job.from_node:
        raise click.UsageError("--node needs --from node")
    if job.options.dev_vault and job.from_node:
        raise click.UsageError("--dev-vault and --from node exclude each other")
    async with open_cluster(job.cluster) as cluster:
        prepared = await _prepare(job, cluster)
        if job.from_node:
            return await _probe_from_nodes(job, cluster, prepared)
    return await _probe_from_here(job, prepared)


async def _prepare(job: ClusterJob, cluster: Cluster) -> list[Prepared]:
    targets = ClusterTargets(
        cluster.api,
        cluster.namespace,
        exit_code=exit_code,
        seconds=job.options.timeout or DEFAULT_SECONDS,
    )
    match job.target.kind:
        case TargetKind.POD:
            return await targets.pod(job.target.name)
        case TargetKind.CLASS:
            account = job.service_account or DEFAULT_SERVICE_ACCOUNT
            return await targets.secret_provider_class(job.target.name, account)
        case TargetKind.SYNC:
            return await targets.secret_sync(job.target.name)
        case TargetKind.SECRET:
            raise AssertionError("parse_target does not permit it")
        case _:
            assert_never(job.target.kind)


async def _probe_from_here(job: ClusterJob, prepared: Sequence[Prepared]) -> list[Report]:
    if not any(each.request for each in prepared):
        return [each.report(()) for each in prepared]
    options = job.options
    if options.dev_vault:
        console().note("DEVELOPMENT ONLY: all requests go to the development vault, not the cloud")
    settings = ProbeSettings(
        options.settings,
        options.timeout or DEFAULT_SECONDS,
        options.dev_vault,
        options.vault_qps,
    )
    try:
        async with probe_tools(settings) as tools:

            async def probe(each: Prepared) -> Report:
                checks = await run_probe(each.request, tools) if each.request else ()
                return each.report(checks)

            return list(await asyncio.gather(*map(probe, prepared)))
    except KeyferryError as error:  # the development vault is not running
        place = f"development vault {options.dev_vault}"
        return [_stopped(each, DoctorStage.TCP, place, error) for each in prepared]


async def _probe_from_nodes(
    job: ClusterJob, cluster: Cluster, prepared: Sequence[Prepared]
) -> list[Report]:
    daemon = SYNC_CONTROLLER if job.target.kind is TargetKind.SYNC else DRIVER
    async with pod_streams(cluster) as streams:

        async def probe(each: Prepared) -> Report:
            if each.request is None:
                return each.report(())
            checks: tuple[Check, ...]
            pod = await find_keyferry_pod(
                cluster.api,
                daemon,
                node=job.node or each.node,
                namespace=job.driver_namespace,
            )
            console().note(f"probing from pod {pod.namespace}/{pod.name} on node {pod.node}")
            checks = await probe_on_node(streams, pod, each.request)
            return each.report(checks)

        return list(await asyncio.gather(*map(probe, prepared)))


def _stopped(prepared: Prepared, stage: DoctorStage, place: str, error: KeyferryError) -> Report:
    return stopped(
        prepared.target, stage, place, error, exit_code=exit_code, before=prepared.checks
    ).report(())
