"""Finds a replica of the SecretSync controller that serves the status page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from keyferry.formats.fields import get, items, text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from keyferry.kubernetes.api.client import KubeApi
    from keyferry.kubernetes.object_codec import Manifest

APP_LABEL = "keyferry-sync"
"""The label `app` of the controller's pods."""
_FLAG = "--status-page-addr="


class PageTarget(Struct, frozen=True):
    """A pod that serves the page.

    Attributes:
        namespace: of the pod.
        pod: its name.
        port: of the page, on the loopback address of the pod.
    """

    namespace: str
    pod: str
    port: int

    def __str__(self) -> str:
        """Return `namespace/pod`."""
        return f"{self.namespace}/{self.pod}"


class Controller(Struct, frozen=True):
    """The SecretSync controller as its pods describe it.

    Attributes:
        pods: names of all its pods, as `namespace/name`.
        targets: the ready ones that serve the page.
        has_page: whether a pod is configured to serve it.
    """

    pods: tuple[str, ...]
    targets: tuple[PageTarget, ...]
    has_page: bool


async def find_controller(api: KubeApi, namespace: str) -> Controller:
    """Return the controller of a namespace.

    Args:
        api: the Kubernetes API.
        namespace: "*" for all.

    Raises:
        StoreError: pods cannot be listed.
    """
    from keyferry.kubernetes.api.client import ListOptions
    from keyferry.kubernetes.api.resources import PodResource

    return describe_controller(
        await api.list(ListOptions(PodResource, namespace, {"app": APP_LABEL}))
    )


def describe_controller(pods: Iterable[Manifest]) -> Controller:
    """Return the controller that these pods are."""
    found = [pod for pod in pods if not get(pod, "metadata", "deletionTimestamp")]
    ports = [next(_page_ports(pod), 0) for pod in found]
    return Controller(
        tuple("/".join(_name(pod)) for pod in found),
        tuple(
            PageTarget(*_name(pod), port)
            for pod, port in zip(found, ports, strict=True)
            if port and _is_ready(pod)
        ),
        any(ports),
    )


def _name(pod: Manifest) -> tuple[str, str]:
    return text(get(pod, "metadata", "namespace")), text(get(pod, "metadata", "name"))


def _page_ports(pod: Manifest) -> Iterator[int]:
    for container in items(get(pod, "spec", "containers")):
        for argument in items(get(container, "args")):
            port = text(argument).removeprefix(_FLAG).rpartition(":")[2]
            if text(argument).startswith(_FLAG) and port.isascii() and port.isdecimal():
                yield int(port)


def _is_ready(pod: Manifest) -> bool:
    return any(
        get(each, "type") == "Ready" and get(each, "status") == "True"
        for each in items(get(pod, "status", "conditions"))
    )
