"""What of Keyferry is installed in a cluster, from manifests of the Kubernetes API. [pure]"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from keyferry.formats.fields import get, items, text
from keyferry.formats.go_values import parse_boolean

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from keyferry.formats.kubernetes_yaml import Value
    from keyferry.kubernetes.syncs.objects import ServiceAccountOptIn

DRIVER_COMMAND = "driver"
SYNC_COMMAND = "sync-controller"
_PROGRAM = "keyferry"
_DEFAULT_ACCOUNT = "default"


class Workload(Struct, frozen=True):
    """A DaemonSet of the driver, or a Deployment of the SecretSync controller.

    Attributes:
        kind: of the object.
        namespace: of the object.
        name: of the object.
        service_account: of its pods.
        arguments: of the container, after the command of Keyferry.
    """

    kind: str
    namespace: str
    name: str
    service_account: str
    arguments: tuple[str, ...] = ()

    @property
    def subject(self) -> str:
        """Kind, namespace and name, for messages."""
        return f"{self.kind} {self.namespace}/{self.name}"

    @property
    def user(self) -> str:
        """The user name of its service account."""
        return f"system:serviceaccount:{self.namespace}:{self.service_account}"

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups of its service account."""
        accounts = "system:serviceaccounts"
        return accounts, f"{accounts}:{self.namespace}", "system:authenticated"

    def flag(self, name: str, default: str) -> str:
        """Return the value of a flag; the last one counts."""
        found = default
        for index, argument in enumerate(self.arguments):
            written, equals, value = argument.lstrip("-").partition("=")
            if written == name and argument.startswith("-"):
                following = self.arguments[index + 1 : index + 2]
                found = value if equals else next(iter(following), "")
        return found

    def is_set(self, name: str, *, default: bool) -> bool:
        """Return the value of a boolean flag."""
        if f"--{name}" in self.arguments:
            return True
        given = parse_boolean(self.flag(name, ""))
        return default if given is None else given

    def values(self, name: str, default: str) -> frozenset[str]:
        """Return the values of a flag that are separated by commas."""
        return frozenset(filter(None, map(str.strip, self.flag(name, default).split(","))))


class CsiDriver(Struct, frozen=True):
    """The CSIDriver object.

    Attributes:
        audiences: of `tokenRequests`.
        sends_pod_info: whether kubelet says for which pod a volume is.
        is_ephemeral: whether a pod may have inline volumes of the driver.
    """

    audiences: frozenset[str]
    sends_pod_info: bool
    is_ephemeral: bool


class Right(Struct, frozen=True):
    """A permission of RBAC.

    Attributes:
        verb: the verb.
        resource: the plural with its group and subresource, as in `serviceaccounts/token`.
        namespace: where; "" for all namespaces.
    """

    verb: str
    resource: str
    namespace: str = ""


class MissingRight(Struct, frozen=True):
    """A right that the service account of a workload needs and does not have."""

    workload: Workload
    right: Right


class Installation(Struct, frozen=True):
    """What is installed; None for what the caller may not read.

    Attributes:
        csi_driver: the CSIDriver object; None also without one.
        has_csi_driver: whether there is one.
        drivers: the DaemonSets of Keyferry's driver.
        controllers: the Deployments of Keyferry's SecretSync controller.
        service_accounts: by namespace and name; None for one without the label of the opt-in.
        missing_rights: of drivers and controllers, as far as they could be checked.
    """

    csi_driver: CsiDriver | None = None
    has_csi_driver: bool | None = None
    drivers: tuple[Workload, ...] | None = None
    controllers: tuple[Workload, ...] | None = None
    service_accounts: Mapping[tuple[str, str], ServiceAccountOptIn | None] | None = None
    missing_rights: tuple[MissingRight, ...] = ()


def parse_workloads(
    manifests: Iterable[Mapping[str, Value]], kind: str, command: str
) -> tuple[Workload, ...]:
    """Return the objects with a container that runs a command of Keyferry.

    Args:
        manifests: DaemonSets or Deployments.
        kind: their kind.
        command: of Keyferry.
    """
    found = []
    for manifest in manifests:
        pod = get(manifest, "spec", "template", "spec")
        account = text(get(pod, "serviceAccountName")) or _DEFAULT_ACCOUNT
        for container in items(get(pod, "containers")):
            words = _words(container)
            if words[:1] == (command,):
                metadata = get(manifest, "metadata")
                namespace, name = (text(get(metadata, key)) for key in ("namespace", "name"))
                found.append(Workload(kind, namespace, name, account, words[1:]))
    return tuple(found)


def parse_csi_driver(manifest: Mapping[str, Value]) -> CsiDriver:
    """Return a CSIDriver object."""
    spec = get(manifest, "spec")
    requests = items(get(spec, "tokenRequests"))
    return CsiDriver(
        frozenset(text(get(each, "audience")) for each in requests),
        get(spec, "podInfoOnMount") is True,
        "Ephemeral" in items(get(spec, "volumeLifecycleModes")),
    )


def _words(container: Value) -> tuple[str, ...]:
    """Return command and arguments of a container, without the program."""
    words = [text(word) for key in ("command", "args") for word in items(get(container, key))]
    return tuple(words[1:] if words and words[0].rpartition("/")[2] == _PROGRAM else words)
