"""Who uses a Secret: pods, service accounts and ingresses. [pure]"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import astuple

from keyferry.formats.fields import get, items, parse_time, text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime

    from keyferry.formats.kubernetes_yaml import Value
    from keyferry.kubernetes.object_codec import Manifest

_CONTAINERS = ("initContainers", "containers", "ephemeralContainers")
ENVIRONMENT = "environment"
CURRENT = "current"
OLD = "old"
"""Of an environment: whether its container started after the last change of the Secret."""
NOT_MOUNTED = "not mounted yet; kubectl describe pod shows why"
"""The problem of a volume without a pod status."""


class SecretUser(Struct, frozen=True):
    """One use of a Secret.

    Attributes:
        namespace: of both.
        secret: the name of the Secret.
        kind: of the user.
        name: of the user.
        usage: how: `environment`, `volume`, `image pull`, `tls`.
    """

    namespace: str
    secret: str
    kind: str
    name: str
    usage: str


def secret_users(
    pods: Iterable[Manifest],
    service_accounts: Iterable[Manifest] = (),
    ingresses: Iterable[Manifest] = (),
) -> list[SecretUser]:
    """Return all uses, sorted."""
    found = {
        *_users("Pod", pods, _pod_uses),
        *_users("ServiceAccount", service_accounts, _account_uses),
        *_users("Ingress", ingresses, _ingress_uses),
    }
    return sorted(found, key=astuple)


def environment_secrets(pod: Manifest) -> dict[str, datetime | None]:
    """Return the Secrets in environments of a pod, and when its oldest such container started.

    A container that does not run has no environment.
    """
    started: dict[str, datetime | None] = {}
    statuses = {
        text(get(status, "name")): parse_time(text(get(status, "state", "running", "startedAt")))
        for status in items(get(pod, "status", "containerStatuses"))
    }
    for container in items(get(pod, "spec", "containers")):
        start = statuses.get(text(get(container, "name")))
        for name in set(_environment(container)):
            known = started.get(name)
            started[name] = min(known, start) if known and start else known or start
    return started


def _users(
    kind: str,
    manifests: Iterable[Manifest],
    uses: Callable[[Manifest], Iterator[tuple[str, str]]],
) -> Iterator[SecretUser]:
    for manifest in manifests:
        namespace = text(get(manifest, "metadata", "namespace"))
        name = text(get(manifest, "metadata", "name"))
        for secret, usage in uses(manifest):
            if secret:
                yield SecretUser(namespace, secret, kind, name, usage)


def _pod_uses(pod: Manifest) -> Iterator[tuple[str, str]]:
    for kind in _CONTAINERS:
        for container in items(get(pod, "spec", kind)):
            for name in _environment(container):
                yield name, ENVIRONMENT
    for volume in items(get(pod, "spec", "volumes")):
        yield text(get(volume, "secret", "secretName")), "volume"
        for source in items(get(volume, "projected", "sources")):
            yield text(get(source, "secret", "name")), "volume"
    yield from _pull_secrets(get(pod, "spec"))


def _account_uses(account: Manifest) -> Iterator[tuple[str, str]]:
    yield from _pull_secrets(account)


def _ingress_uses(ingress: Manifest) -> Iterator[tuple[str, str]]:
    for entry in items(get(ingress, "spec", "tls")):
        yield text(get(entry, "secretName")), "tls"


def _pull_secrets(value: Value) -> Iterator[tuple[str, str]]:
    for reference in items(get(value, "imagePullSecrets")):
        yield text(get(reference, "name")), "image pull"


def _environment(container: Value) -> Iterator[str]:
    for source in items(get(container, "envFrom")):
        if name := text(get(source, "secretRef", "name")):
            yield name
    for variable in items(get(container, "env")):
        if name := text(get(variable, "valueFrom", "secretKeyRef", "name")):
            yield name
