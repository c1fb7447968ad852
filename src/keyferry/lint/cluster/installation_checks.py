"""Checks what is installed in a cluster against the objects that use it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.formats.fields import get, items
from keyferry.kubernetes.names import DRIVER_NAME
from keyferry.lint.cluster.rights import (
    SECRETS,
    TOKENS,
    audiences,
    creates_tokens,
    requires_opt_in,
    scope_of,
)
from keyferry.lint.finding import Place, finding
from keyferry.providers.registry import token_audiences
from keyferry.sync_controller.rules.refusals import audience_error, namespace_error, opt_in_error

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from keyferry.errors import KeyferryError
    from keyferry.lint.cluster.installation import Installation, Workload
    from keyferry.lint.finding import Finding
    from keyferry.lint.manifests import LintedClass, LintedPod, LintedSync, Manifests

_DEFAULT_ACCOUNT = "default"
_CSI_DRIVER = f"CSIDriver {DRIVER_NAME}"
_INSTALL = "Install Keyferry's chart in the cluster."


def check_installation(installation: Installation, manifests: Manifests) -> Iterator[Finding]:
    """Yield what is wrong with an installation for the objects of a cluster.

    Args:
        installation: what is installed, as far as the caller may read it.
        manifests: the objects.
    """
    yield from _rights(installation)
    yield from _csi_driver(installation, manifests)
    yield from _pod_audiences(installation, manifests)
    for pod in manifests.pods:
        yield from _pod_account(installation, pod)
    for linted in manifests.syncs:
        yield from _sync(installation, manifests, linted)


# --- Rights ---------------------------------------------------------------------------------------


def _rights(installation: Installation) -> Iterator[Finding]:
    """Yield one finding for each kind of objects and namespace."""
    verbs: dict[tuple[Workload, str, str], list[str]] = {}
    for missing in installation.missing_rights:
        key = (missing.workload, missing.right.resource, missing.right.namespace)
        verbs.setdefault(key, []).append(missing.right.verb)
    for (workload, resource, namespace), names in verbs.items():
        where = f"in namespace {namespace}" if namespace else "in all namespaces"
        yield finding(
            "rbac",
            Place(f"{workload.namespace}/{workload.name}", 0),
            workload.subject,
            f"its service account may not {', '.join(names)} {resource} {where}",
            _rights_remedy(workload, resource, namespace),
        )


def _rights_remedy(workload: Workload, resource: str, namespace: str) -> str:
    if not namespace:
        value = "createPodTokens=true" if resource == TOKENS else "rbac.install=true"
        return f"Upgrade the chart with {value}, or grant service account {workload.user}."
    if workload.kind == "DaemonSet":
        return (
            f"Add {namespace} to syncSecret.namespaces of the chart, so that secretObjects are"
            " synced there."
        )
    needed = "secrets" if resource == SECRETS else resource
    return f"Add {namespace} to secretSync.namespaces of the chart, which grants {needed}."


# --- Pods -----------------------------------------------------------------------------------------


def _csi_driver(installation: Installation, manifests: Manifests) -> Iterator[Finding]:
    driver = installation.csi_driver
    if installation.has_csi_driver is None:
        return

    def wrong(problem: str, remedy: str) -> Finding:
        return finding("csi-driver", Place(DRIVER_NAME, 0), _CSI_DRIVER, problem, remedy)

    if driver is None:
        if installation.drivers or any(True for _ in _mounted(manifests)):
            yield wrong("it does not exist, so kubelet mounts no volume of the driver", _INSTALL)
        return
    if not driver.sends_pod_info:
        yield wrong("podInfoOnMount is not true", "Set podInfoOnMount: true.")
    if not driver.is_ephemeral:
        yield wrong(
            "volumeLifecycleModes lacks Ephemeral, so pods cannot have volumes of the driver",
            "Create it again with volumeLifecycleModes: [Ephemeral].",
        )


def _pod_audiences(installation: Installation, manifests: Manifests) -> Iterator[Finding]:
    """Yield SecretProviderClasses for which kubelet sends no token.

    A SecretProviderClass that only SecretSyncs use needs no token of kubelet. A driver that is not
    Keyferry's may request tokens itself, except for Azure.
    """
    driver = installation.csi_driver
    if driver is None or installation.drivers is None:
        return
    mounted = set(_mounted(manifests))
    synced = {(each.sync.ref.namespace, each.sync.class_name) for each in manifests.syncs}
    for linted in manifests.classes:
        spc = linted.spc
        if (spc.namespace, spc.name) in synced - mounted:
            continue
        if spc.provider != "azure" and not installation.drivers:
            continue
        missing = (token_audiences(spc) or frozenset()) - driver.audiences
        if missing and not any(creates_tokens(each, spc.provider) for each in installation.drivers):
            yield _audience(linted, sorted(missing), driver.audiences)


def _audience(linted: LintedClass, missing: list[str], listed: Iterable[str]) -> Finding:
    needed = ", ".join(missing)
    known = ", ".join(sorted(filter(None, listed))) or "none"
    return finding(
        "audience",
        linted.manifest.place(),
        linted.manifest.subject,
        f"pods need a service-account token for the audience {needed}, and tokenRequests of the"
        f" {_CSI_DRIVER} has: {known}",
        f"Add audience: {missing[0]} to tokenRequests of the chart.",
    )


def _mounted(manifests: Manifests) -> Iterator[tuple[str, str]]:
    """Yield namespace and name of each SecretProviderClass that a pod mounts."""
    for pod in manifests.pods:
        for volume in items(pod.spec.get("volumes")):
            csi = get(volume, "csi")
            if get(csi, "driver") == DRIVER_NAME:
                name = get(csi, "volumeAttributes", "secretProviderClass")
                yield pod.manifest.namespace, str(name or "")


def _pod_account(installation: Installation, pod: LintedPod) -> Iterator[Finding]:
    """Yield a service account that was deleted: kubelet gets no token for the pod."""
    accounts = installation.service_accounts
    name = str(pod.spec.get("serviceAccountName") or _DEFAULT_ACCOUNT)
    mounts = any(
        get(volume, "csi", "driver") == DRIVER_NAME for volume in items(pod.spec.get("volumes"))
    )
    if mounts and accounts is not None and (pod.manifest.namespace, name) not in accounts:
        yield finding(
            "service-account",
            pod.manifest.place(),
            pod.manifest.subject,
            f"service account {pod.manifest.namespace}/{name} does not exist",
            "Create it, or set another serviceAccountName in the pod.",
        )


# --- SecretSyncs ----------------------------------------------------------------------------------


def _sync(
    installation: Installation, manifests: Manifests, linted: LintedSync
) -> Iterator[Finding]:
    """Yield why a SecretSync cannot be synced by the controllers of the cluster.

    Without a controller of Keyferry, another one may handle it.
    """
    sync, place, subject = linted.sync, linted.manifest.place(), linted.manifest.subject
    accounts = installation.service_accounts
    key = (sync.ref.namespace, sync.service_account)
    if accounts is not None and key not in accounts:
        yield finding(
            "service-account",
            place,
            subject,
            f"service account {sync.ref.namespace}/{sync.service_account} does not exist",
            "Create it, or set another serviceAccountName in the SecretSync.",
        )
    if not installation.controllers:
        return
    handling = [
        each for each in installation.controllers if scope_of(each).handles(sync.controller_name)
    ]
    if not handling:
        names = sorted({scope_of(each).controller_name for each in installation.controllers})
        yield finding(
            "not-handled",
            place,
            subject,
            f"no controller of Keyferry handles secretSyncControllerName"
            f" {sync.controller_name!r}; there are: {', '.join(names)}",
            f"Set secretSyncControllerName: {names[0]}, unless another controller handles it.",
        )
    for controller in handling:
        needed = audiences(sync, manifests)
        opt_in = accounts.get(key) if accounts else None
        checks_opt_in = key in (accounts or ()) and requires_opt_in(controller) and bool(needed)
        listed = controller.values("token-request-audience", "")
        errors: tuple[tuple[str, KeyferryError | None], ...] = (
            (
                "not-handled",
                None
                if scope_of(controller).lists(sync.ref.namespace)
                else namespace_error(sync.ref.namespace),
            ),
            ("audience", audience_error(needed - listed, listed) if needed - listed else None),
            ("service-account", opt_in_error(sync, opt_in) if checks_opt_in else None),
        )
        for rule, error in errors:
            if error is not None:
                yield finding(rule, place, subject, error.problem, error.remedy)
