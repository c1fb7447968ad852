"""The rights that the driver and the SecretSync controller need in a cluster.

They are those of the chart. The right to create events is not among them: a mount and a sync
succeed without it.

Source: charts/keyferry/templates/rbac.yaml
Source: charts/keyferry/templates/sync-rbac.yaml
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.kubernetes.syncs.groups import GKE_GROUP, UPSTREAM_GROUP
from keyferry.lint.cluster.installation import Right, Workload
from keyferry.providers.registry import token_audiences
from keyferry.sync_controller.settings import DEFAULT_CONTROLLER_NAME, Scope

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from keyferry.kubernetes.syncs.objects import SecretSync
    from keyferry.lint.manifests import Manifests

SECRETS = "secrets"
TOKENS = "serviceaccounts/token"
_ACCOUNTS = "serviceaccounts"
_GROUP = "secrets-store.csi.x-k8s.io"
_READ = ("get", "list", "watch")
_CLASSES = (f"secretproviderclasses.{_GROUP}", _READ)
_DRIVER_RULES = (
    _CLASSES,
    (f"secretproviderclasspodstatuses.{_GROUP}", (*_READ, "create", "patch")),
    ("pods", _READ),
)
_SECRET_VERBS = (*_READ, "create", "patch", "delete")
_TOKEN_FLAGS = ("vault-create-pod-tokens", "openbao-create-pod-tokens")
_ALL = "*"


def driver_rights(driver: Workload, manifests: Manifests) -> tuple[Right, ...]:
    """Return the rights that a driver needs for the SecretProviderClasses of a cluster.

    Args:
        driver: its DaemonSet.
        manifests: the objects of the cluster.
    """
    needed = [*_rights(_DRIVER_RULES)]
    if any(driver.is_set(flag, default=False) for flag in _TOKEN_FLAGS):
        needed.append(Right("create", TOKENS))
    namespaces = {each.spc.namespace for each in manifests.classes if each.spc.secret_objects}
    for namespace in sorted(namespaces):
        needed += _rights([(SECRETS, _SECRET_VERBS)], namespace)
    return tuple(needed)


def creates_tokens(driver: Workload, provider: str) -> bool:
    """Return whether a driver requests the tokens that kubelet does not send."""
    return driver.is_set(f"{provider}-create-pod-tokens", default=False)


def controller_rights(controller: Workload, manifests: Manifests) -> tuple[Right, ...]:
    """Return the rights that a SecretSync controller needs for the SecretSyncs that it handles.

    Args:
        controller: its Deployment.
        manifests: the objects of the cluster.
    """
    scope = scope_of(controller)
    handled = [
        each.sync
        for each in manifests.syncs
        if scope.handles(each.sync.controller_name) and scope.lists(each.sync.ref.namespace)
    ]
    needed = [*_rights([_CLASSES])]
    for plural in sorted({sync.ref.group.resource for sync in handled}):
        needed += _rights([(plural, _READ)])
        needed.append(Right("patch", f"{plural}/status"))
    for namespace in sorted({sync.ref.namespace for sync in handled}):
        needed += _rights([(SECRETS, _SECRET_VERBS)], namespace)
        if requires_opt_in(controller):
            needed += _rights([(_ACCOUNTS, _READ)], namespace)
    for namespace in sorted({sync.ref.namespace for sync in handled if audiences(sync, manifests)}):
        needed.append(Right("create", TOKENS, namespace))
    return tuple(needed)


def scope_of(controller: Workload) -> Scope:
    """Return which SecretSyncs a controller handles."""
    namespaces = controller.values("namespaces", _ALL)
    return Scope(
        controller.flag("controller-name", DEFAULT_CONTROLLER_NAME),
        controller.is_set("default-controller", default=True),
        None if _ALL in namespaces else namespaces,
        (UPSTREAM_GROUP, GKE_GROUP),
    )


def requires_opt_in(controller: Workload) -> bool:
    """Return whether a controller uses only service accounts with a label."""
    return controller.is_set("service-account-opt-in", default=False)


def audiences(sync: SecretSync, manifests: Manifests) -> frozenset[str]:
    """Return the audiences of the tokens that a SecretSync needs; none if they are not known."""
    named = (
        each.spc
        for each in manifests.classes
        if (each.spc.namespace, each.spc.name) == (sync.ref.namespace, sync.class_name)
    )
    return next((token_audiences(spc) or frozenset() for spc in named), frozenset())


def _rights(rules: Iterable[tuple[str, tuple[str, ...]]], namespace: str = "") -> Iterator[Right]:
    for resource, verbs in rules:
        for verb in verbs:
            yield Right(verb, resource, namespace)
