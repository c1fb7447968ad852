"""The digest in the status of a SecretSync: changes with what the Secret is made of. [pure]

It is made of versions, not of values, so that nobody can guess a value from it.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from keyferry.content import ObjectVersion
    from keyferry.sync_controller.decision import Marks

_PREFIX = "kf1:"
"""Distinguishes it from the hashes of upstream."""


def sync_hash(uid: str, marks: Marks, versions: Iterable[ObjectVersion]) -> str:
    """Return the digest.

    Args:
        uid: of the SecretSync.
        marks: the generations that it was synced for.
        versions: of the objects in the Secret.
    """
    digest = hashlib.sha256()
    parts = [uid, str(marks.generation), marks.class_version]
    for version in sorted(versions, key=lambda each: each.id):
        parts += version.id, version.version
    for part in parts:
        encoded = part.encode(errors="surrogatepass")
        digest.update(len(encoded).to_bytes(8))
        digest.update(encoded)
    return f"{_PREFIX}{digest.hexdigest()[:32]}"
