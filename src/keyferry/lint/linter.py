"""Entry points: return what is wrong with files, or with objects of a cluster, in their order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.lint.class_checks import check_classes
from keyferry.lint.manifests import Manifests, read_manifests
from keyferry.lint.pod_checks import check_pods
from keyferry.lint.sync_checks import check_syncs

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from keyferry.lint.cluster.installation import Installation
    from keyferry.lint.finding import Finding


def lint(
    files: Iterable[tuple[str, bytes]],
    *,
    default_namespace: str = "default",
    disabled: Collection[str] = (),
) -> tuple[list[Finding], int]:
    """Check the manifests of files.

    Args:
        files: name and content of each file.
        default_namespace: of objects without one.
        disabled: ids of rules that are not checked.

    Returns:
        The findings, and the number of objects that were checked.
    """
    manifests, order = Manifests(), dict[str, int]()
    for name, text in files:
        order[name] = len(order)
        manifests += read_manifests(name, text, default_namespace=default_namespace)
    kept = _check(manifests, disabled)
    kept.sort(key=lambda each: (order[each.place.file], each.place.line))
    return kept, manifests.count


def lint_cluster(
    manifests: Manifests,
    installation: Installation | None = None,
    *,
    disabled: Collection[str] = (),
) -> tuple[list[Finding], int]:
    """Check the objects of a cluster, and what is installed there.

    Args:
        manifests: the objects.
        installation: what is installed; None if that is not checked.
        disabled: ids of rules that are not checked.

    Returns:
        The findings by namespace, name and kind, and the number of objects that were checked.
    """
    from keyferry.lint.cluster.installation_checks import check_installation

    kept = _check(manifests, disabled)
    if installation is not None:
        found = check_installation(installation, manifests)
        kept += [each for each in found if each.rule.id not in disabled]
    kept.sort(key=lambda each: (each.place.file, each.subject))
    return kept, manifests.count


def _check(manifests: Manifests, disabled: Collection[str]) -> list[Finding]:
    found = [
        *manifests.findings,
        *check_classes(manifests.classes),
        *check_syncs(manifests),
        *check_pods(manifests),
    ]
    return [each for each in found if each.rule.id not in disabled]
