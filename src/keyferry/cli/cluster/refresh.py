"""`keyferry refresh`: asks the drivers of a cluster to refresh volumes now."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from keyferry.cli.cluster.connection import ClusterOptions, cluster_options
from keyferry.cli.commands import command, option
from keyferry.cli.console import console
from keyferry.cli.exit_codes import ExitCode
from keyferry.cli.local.options import DurationParam

if TYPE_CHECKING:
    from keyferry.cli.cluster.connection import Cluster
    from keyferry.kubernetes.api.resources import Resource
    from keyferry.kubernetes.object_codec import Manifest
    from keyferry.kubernetes.objects import PodStatus

_POLL_SECONDS = 1.0


@command(
    examples=(
        "keyferry refresh web -n shop",
        "keyferry refresh web -n shop --wait",
        "keyferry refresh --pod web-6d4cf56db6-2vxkq -n shop",
    )
)
@click.argument("class_name", metavar="CLASS", required=False)
@cluster_options
@option("--pod", metavar="NAME", help="Refresh the volumes of this pod only.")
@option("--wait", is_flag=True, help="Wait until all volumes are refreshed.")
@option(
    "--timeout",
    type=DurationParam(),
    default="2m",
    show_default=True,
    metavar="DURATION",
    help="How long --wait waits.",
)
def refresh(
    options: ClusterOptions, class_name: str | None, pod: str | None, wait: bool, timeout: float
) -> None:
    """Refresh the volumes of a SecretProviderClass, or of one pod, now.

    The command sets the annotation keyferry.dev/refresh, and the drivers refresh the volumes within
    seconds, spread over the nodes.
    """
    import asyncio

    if (class_name is None) == (pod is None):
        raise click.UsageError("name a SecretProviderClass, or a pod with --pod")
    console().configure_logs()
    asyncio.run(_refresh(options, class_name or "", pod or "", timeout if wait else None))


async def _refresh(
    options: ClusterOptions, class_name: str, pod: str, seconds: float | None
) -> None:
    from datetime import UTC, datetime

    from keyferry.cli.cluster.connection import open_cluster
    from keyferry.kubernetes.api.resources import PodResource, SecretProviderClassResource

    mark = datetime.now(UTC).isoformat(timespec="microseconds")
    kind = PodResource if pod else SecretProviderClassResource
    async with open_cluster(options) as cluster:
        await _annotate(cluster, kind, pod or class_name, mark)
        shown = f"pod/{pod}" if pod else f"secretproviderclass/{class_name}"
        console().report(f"{shown} annotated")
        if seconds is not None:
            await _wait(cluster, class_name, pod, mark, seconds)


async def _annotate(cluster: Cluster, kind: type[Resource], name: str, mark: str) -> None:
    from keyferry.errors import RequestInvalidError
    from keyferry.kubernetes.api.api_errors import ApiNotFoundError
    from keyferry.kubernetes.class_fields import REFRESH_ANNOTATION

    patch: Manifest = {"metadata": {"annotations": {REFRESH_ANNOTATION: mark}}}
    try:
        await cluster.api.json_merge(kind, cluster.namespace, name, patch)
    except ApiNotFoundError:
        noun = kind.__name__.removesuffix("Resource")
        raise RequestInvalidError(
            f"there is no {noun} {name} in namespace {cluster.namespace}",
            "Correct the name, or name the namespace with -n.",
        ) from None


async def _wait(cluster: Cluster, class_name: str, pod: str, mark: str, seconds: float) -> None:
    """Wait until the pod statuses answer `mark`; print a line for each volume.

    Exits with 4 if a volume is not refreshed in time.
    """
    import asyncio

    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while True:
        waiting: list[tuple[PodStatus, str]] = []
        done: list[tuple[PodStatus, str]] = []
        for status, problem in await _statuses(cluster, class_name, pod):
            marks = status.refresh_marks
            answered = mark == (marks.of_pod if pod else marks.of_class)
            (done if answered else waiting).append((status, problem))
        if not waiting or loop.time() >= end:
            break
        await asyncio.sleep(min(_POLL_SECONDS, max(0.0, end - loop.time())))
    for status, _ in done:
        console().report(f"pod/{status.pod.name} refreshed")
    for status, problem in waiting:
        about = f": {problem}" if problem else ""
        console().error(f"pod/{status.pod.name} is not refreshed after {seconds:g} s{about}")
    if waiting:
        sys.exit(ExitCode.UNAVAILABLE)
    if not done:
        console().note("no pod has a volume of it")


async def _statuses(cluster: Cluster, class_name: str, pod: str) -> list[tuple[PodStatus, str]]:
    """Return the pod statuses that are waited for, and why their last refresh failed."""
    from keyferry.formats.fields import FieldTypeError
    from keyferry.inventory.objects import refresh_problem
    from keyferry.kubernetes.api.client import ListOptions
    from keyferry.kubernetes.api.resources import PodStatusResource
    from keyferry.kubernetes.object_codec import parse_pod_status

    found, completed = [], await _completed_pods(cluster)
    for manifest in await cluster.api.list(ListOptions(PodStatusResource, cluster.namespace)):
        try:
            status = parse_pod_status(manifest)
        except FieldTypeError:
            continue
        if status.pod.name in completed:
            continue  # its volume is not refreshed any more
        if (pod and status.pod.name == pod) or (class_name and status.class_name == class_name):
            found.append((status, refresh_problem(manifest)))
    return found


async def _completed_pods(cluster: Cluster) -> frozenset[str]:
    """Return the names of pods that have ended; none if pods cannot be listed."""
    from keyferry.errors import StorePermissionError
    from keyferry.kubernetes.api.client import ListOptions
    from keyferry.kubernetes.api.resources import PodResource
    from keyferry.kubernetes.object_codec import parse_pod

    try:
        manifests = await cluster.api.list(ListOptions(PodResource, cluster.namespace))
    except StorePermissionError:
        return frozenset()
    pods = (parse_pod(manifest) for manifest in manifests)
    return frozenset(pod.name for pod in pods if pod is not None and pod.completed)
