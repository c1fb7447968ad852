"""What upstream's SecretSync controller does with what only Keyferry knows. [pure]

Source: docs/reference/secret-sync.md#differences-from-upstreams-controller
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from keyferry.kubernetes.syncs.fields import (
    ADOPT,
    CREDENTIALS_SECRET,
    DRIFT,
    REFRESH,
    REFRESH_INTERVAL,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from keyferry.formats.kubernetes_yaml import FieldPath
    from keyferry.kubernetes.syncs.objects import SecretSync

_NAME = re.compile(r"[A-Za-z0-9.]([-A-Za-z0-9]+([-._a-zA-Z0-9]?[A-Za-z0-9])*)?(/([0-9]+))*")
"""What upstream's CRD permits as `sourcePath` and `targetKey`."""
_MAX_NAME = 253
_REFUSES = "refuses it: its CRD permits only letters, digits, single '-', '_' and '.', and /NUMBER"


def sync_differences(
    sync: SecretSync, paths: Collection[str] | None
) -> Iterator[tuple[FieldPath, str]]:
    """Yield what upstream's controller reads differently.

    Args:
        sync: the SecretSync.
        paths: the files of its SecretProviderClass; None if they are not known.

    Yields:
        The path of a field, and a clause that continues `upstream's controller`.
    """
    options = sync.options
    annotations = (
        (CREDENTIALS_SECRET, bool(options.credentials_secret), "ignores it, and cannot log in"),
        (ADOPT, options.adopts, "ignores it, and fails if the Secret exists"),
        (DRIFT, options.ignores_drift, "ignores it: it reverts no changes of others"),
        (REFRESH, bool(options.refresh_mark), "ignores it: change spec.forceSynchronization"),
        (
            REFRESH_INTERVAL,
            options.refresh_interval is not None,
            "ignores it: all Secrets are refreshed at the interval of the controller",
        ),
    )
    for name, is_set, effect in annotations:
        if is_set:
            yield ("metadata", "annotations", name), effect
    if sync.controller_name:
        yield ("spec", "secretSyncControllerName"), "ignores it, and handles the SecretSync, too"
    for at, item in enumerate(sync.secret_object.data):
        place = ("spec", "secretObject", "data", at)
        if not _is_permitted(item.object_name):
            yield (*place, "sourcePath"), _REFUSES
        elif paths is not None and item.object_name not in paths:
            yield (*place, "sourcePath"), "finds no file: it knows only the paths of files"
        if not _is_permitted(item.key):
            yield (*place, "targetKey"), _REFUSES


def _is_permitted(name: str) -> bool:
    return len(name) <= _MAX_NAME and _NAME.fullmatch(name) is not None
