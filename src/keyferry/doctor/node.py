"""Runs a probe in Keyferry's pod on a node, over the Kubernetes API.

Tokens and credentials are sent over standard input only: arguments appear in the audit log of the
cluster and in /proc.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from keyferry.doctor.request import decode_checks, encode_request
from keyferry.errors import PlatformError, Stage
from keyferry.formats.fields import Field, FieldTypeError
from keyferry.kubernetes.api.client import ListOptions
from keyferry.kubernetes.api.resources import PodResource
from keyferry.kubernetes.api.streams import ExecRequest
from keyferry.records import replace

if TYPE_CHECKING:
    from keyferry.doctor.checks import Check
    from keyferry.doctor.request import ProbeRequest
    from keyferry.kubernetes.api.client import KubeApi
    from keyferry.kubernetes.api.streams import PodStreams
    from keyferry.kubernetes.object_codec import Manifest

COMMAND = ("keyferry", "doctor", "--probe")
DRIVER, SYNC_CONTROLLER = "driver", "sync-controller"
_LABELS = {DRIVER: "secrets-store-csi-driver", SYNC_CONTROLLER: "keyferry-sync"}


class KeyferryPod(Struct, frozen=True):
    """A running container of Keyferry.

    Attributes:
        arguments: of its command, from the name of the daemon on.
    """

    namespace: str
    name: str
    container: str
    node: str
    arguments: tuple[str, ...]


async def find_keyferry_pod(
    api: KubeApi, daemon: str, *, node: str = "", namespace: str | None = None
) -> KeyferryPod:
    """Return a running pod of Keyferry.

    Args:
        api: with the rights of the caller.
        daemon: `DRIVER` or `SYNC_CONTROLLER`.
        node: its node; "" for any.
        namespace: where to look; None for all namespaces.

    Raises:
        PlatformError: no such pod runs.
        StoreError: pods cannot be listed.
    """
    options = ListOptions(
        PodResource,
        namespace or "*",
        label_selector={"app": _LABELS[daemon]},
        field_selector={"spec.nodeName": node} if node else {},
    )
    for manifest in await api.list(options):
        if found := _parse(manifest, daemon):
            return found
    where = f"on node {node}" if node else "in this cluster"
    raise PlatformError(
        f"no pod of keyferry {daemon} runs {where}",
        "Check: kubectl get pods --all-namespaces --output wide --selector"
        f" app={_LABELS[daemon]}; or leave out --from node.",
        stage=Stage.PROVIDER,
    )


def _parse(manifest: Manifest, daemon: str) -> KeyferryPod | None:
    """Return the container that runs a daemon of Keyferry and is ready, or None."""
    root = Field(manifest)
    try:
        metadata, spec, status = root["metadata"], root["spec"], root["status"]
        if status["phase"].text() != "Running" or metadata["deletionTimestamp"].value is not None:
            return None
        for container in spec["containers"].items():
            words = [each.text() for key in ("command", "args") for each in container[key].items()]
            if daemon not in words:
                continue
            return KeyferryPod(
                metadata["namespace"].text(),
                metadata["name"].text(),
                container["name"].text(),
                spec["nodeName"].text(),
                tuple(words[words.index(daemon) :]),
            )
    except FieldTypeError:
        pass
    return None


async def probe_on_node(
    streams: PodStreams, pod: KeyferryPod, request: ProbeRequest
) -> tuple[Check, ...]:
    """Return the checks of a probe that runs in `pod`.

    Raises:
        KeyferryError: the probe cannot be run, or returns no report.
    """
    sent = replace(request, arguments=pod.arguments)
    result = await streams.run(
        ExecRequest(pod.namespace, pod.name, pod.container, COMMAND, encode_request(sent))
    )
    if result.exit_code != 0:
        raise PlatformError(
            f"the probe in pod {pod.namespace}/{pod.name} failed (exit code {result.exit_code})",
            "Check that the cluster runs a version of Keyferry that has keyferry doctor.",
            stage=Stage.PROVIDER,
        )
    return decode_checks(result.stdout)
