"""`keyferry refresh`: asks the drivers of a cluster, and the SecretSync controller, to refresh."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from keyferry.cli.cluster.connection import ClusterOptions, cluster_options
from keyferry.cli.cluster.targets import Target, TargetKind, parse_target
from keyferry.cli.commands import command, option
from keyferry.cli.console import console
from keyferry.cli.exit_codes import ExitCode
from keyferry.cli.local.options import DurationParam

if TYPE_CHECKING:
    from keyferry.cli.cluster.answers import Answer
    from keyferry.cli.cluster.connection import Cluster
    from keyferry.kubernetes.api.resources import Resource
    from keyferry.kubernetes.object_codec import Manifest

_POLL_SECONDS = 1.0


@command(
    examples=(
        "keyferry refresh web -n shop",
        "keyferry refresh web -n shop --wait",
        "keyferry refresh secretsync/web -n shop --wait",
        "keyferry refresh --pod web-6d4cf56db6-2vxkq -n shop",
    )
)
@click.argument("target", metavar="[CLASS|TYPE/NAME]", required=False)
@cluster_options
@option("--pod", metavar="NAME", help="Refresh the volumes of this pod only.")
@option("--wait", is_flag=True, help="Wait until all volumes and Secrets are refreshed.")
@option(
    "--timeout",
    type=DurationParam(),
    default="2m",
    show_default=True,
    metavar="DURATION",
    help="How long --wait waits.",
)
def refresh(
    options: ClusterOptions, target: str | None, pod: str | None, wait: bool, timeout: float
) -> None:
    """Refresh the volumes and SecretSyncs of a SecretProviderClass, one SecretSync or one pod, now.

    TYPE is secretproviderclass, secretsync or pod. The command sets the annotation
    keyferry.dev/refresh. The drivers refresh the volumes within seconds, spread over the nodes; the
    SecretSync controller refreshes the Secrets.
    """
    import asyncio

    if (target is None) == (pod is None):
        raise click.UsageError(
            "name a SecretProviderClass, a SecretSync as secretsync/NAME, or a pod with --pod"
        )
    if target is None:
        named = Target(TargetKind.POD, pod or "")
    else:
        named = parse_target(target, TargetKind.CLASS, TargetKind.SYNC, TargetKind.POD)
    console().configure_logs()
    asyncio.run(_refresh(options, named, timeout if wait else None))


async def _refresh(options: ClusterOptions, target: Target, seconds: float | None) -> None:
    from datetime import UTC, datetime

    from keyferry.cli.cluster.connection import open_cluster

    mark = datetime.now(UTC).isoformat(timespec="microseconds")
    async with open_cluster(options) as cluster:
        await _annotate(cluster, target, mark)
        console().report(f"{target} annotated")
        if seconds is not None:
            await _wait(cluster, target, mark, seconds)


async def _annotate(cluster: Cluster, target: Target, mark: str) -> None:
    """Set the annotation. A SecretSync is that of the first API group that has it."""
    from keyferry.errors import RequestInvalidError
    from keyferry.kubernetes.api.api_errors import ApiNotFoundError
    from keyferry.kubernetes.class_fields import REFRESH_ANNOTATION

    patch: Manifest = {"metadata": {"annotations": {REFRESH_ANNOTATION: mark}}}
    for kind in await _resources(cluster, target.kind):
        try:
            await cluster.api.json_merge(kind, cluster.namespace, target.name, patch)
        except ApiNotFoundError:
            continue
        return
    raise RequestInvalidError(
        f"there is no {_NOUNS[target.kind]} {target.name} in namespace {cluster.namespace}",
        "Correct the name, or name the namespace with -n.",
    )


_NOUNS = {
    TargetKind.POD: "Pod",
    TargetKind.CLASS: "SecretProviderClass",
    TargetKind.SYNC: "SecretSync",
}


async def _resources(cluster: Cluster, kind: TargetKind) -> list[type[Resource]]:
    """Return the resources that objects of a kind can have.

    Raises:
        RequestInvalidError: the CRD of SecretSyncs is not installed.
    """
    from keyferry.cli.cluster.reader import ClusterReader
    from keyferry.errors import RequestInvalidError
    from keyferry.kubernetes.api.resources import PodResource, SecretProviderClassResource
    from keyferry.kubernetes.api.syncs.resources import sync_resource

    if kind is not TargetKind.SYNC:
        return [PodResource if kind is TargetKind.POD else SecretProviderClassResource]
    groups = await ClusterReader(cluster).sync_groups()
    if not groups:
        raise RequestInvalidError(
            "the cluster has no SecretSyncs: their CRD is not installed",
            "Install the controller with the chart: secretSync.enabled=true.",
        )
    return [sync_resource(group) for group in groups]


async def _wait(cluster: Cluster, target: Target, mark: str, seconds: float) -> None:
    """Wait until everything answers `mark`; print a line for each volume and each SecretSync.

    Exits with 4 if something is not refreshed in time.
    """
    import asyncio

    from keyferry.cli.cluster.answers import Answers

    answers = Answers(cluster, target, mark)
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while True:
        found = await answers.read()
        waiting = [each for each in found if not each.is_refreshed]
        if not waiting or loop.time() >= end:
            break
        await asyncio.sleep(min(_POLL_SECONDS, max(0.0, end - loop.time())))
    _report(found, seconds)
    if waiting:
        sys.exit(ExitCode.UNAVAILABLE)
    if not found:
        console().note(_NOBODY[target.kind])


_NOBODY = {
    TargetKind.POD: "no pod has a volume of it",
    TargetKind.CLASS: "no pod has a volume of it, and no SecretSync uses it",
    TargetKind.SYNC: "it was deleted meanwhile",
}


def _report(found: list[Answer], seconds: float) -> None:
    for each in found:
        if each.is_refreshed:
            console().report(f"{each.target} refreshed")
    for each in found:
        if not each.is_refreshed:
            about = f": {each.problem}" if each.problem else ""
            console().error(f"{each.target} is not refreshed after {seconds:g} s{about}")
