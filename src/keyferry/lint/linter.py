"""Entry point: reads files and returns what is wrong with them, in the order of files and lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.lint.class_checks import check_classes
from keyferry.lint.manifests import Manifests, read_manifests
from keyferry.lint.pod_checks import check_pods
from keyferry.lint.sync_checks import check_syncs

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

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
    found = [
        *manifests.findings,
        *check_classes(manifests.classes),
        *check_syncs(manifests.syncs, manifests.classes),
        *check_pods(manifests.pods, manifests.classes, manifests.syncs),
    ]
    kept = [each for each in found if each.rule.id not in disabled]
    kept.sort(key=lambda each: (order[each.place.file], each.place.line))
    return kept, manifests.count
