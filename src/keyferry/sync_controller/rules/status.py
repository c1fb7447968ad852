"""The status of a SecretSync after an attempt. [pure]

None means that the status is as it is to be: a refresh that changes nothing writes nothing.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from keyferry.kubernetes.syncs.conditions import next_conditions
from keyferry.kubernetes.syncs.objects import SyncedObject, SyncStatus
from keyferry.records import replace

if TYPE_CHECKING:
    from collections.abc import Iterable

    from keyferry.content import ObjectVersion, SecretFile
    from keyferry.kubernetes.syncs.objects import SecretSync
    from keyferry.kubernetes.syncs.outcomes import Synced, SyncFailed
    from keyferry.providers.api import MountResult
    from keyferry.sync_controller.rules.decision import Marks


_PREFIX = "kf1:"
"""Distinguishes it from the hashes of upstream."""


def sync_hash(uid: str, marks: Marks, versions: Iterable[ObjectVersion]) -> str:
    """Return a digest that changes with what the Secret is made of.

    It is made of versions, not of values, so that nobody can guess a value from it.

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


def content_digest(key: bytes, files: Iterable[SecretFile]) -> bytes:
    """Return a digest that changes with the content of files.

    Args:
        key: of the process. Nobody else can compare the digest with that of a guessed value.
        files: with different paths.
    """
    digest = hashlib.blake2b(key=key, digest_size=16)
    for file in sorted(files, key=lambda each: each.path):
        for part in (file.path.encode(errors="surrogatepass"), file.contents):
            digest.update(len(part).to_bytes(8))
            digest.update(part)
    return digest.digest()


def synced_status(
    sync: SecretSync,
    synced: Synced,
    *,
    marks: Marks,
    digest: str,
    result: MountResult,
    secret: str,
    holder: str,
    now: datetime,
    legacy: bool,
) -> SyncStatus | None:
    """Return the status after a success; None if only the times would change.

    Args:
        sync: with the status before the attempt.
        synced: what was done.
        marks: what it answers.
        digest: the new `syncHash`.
        result: of the provider.
        secret: `uid/resourceVersion` of the Secret; "" without one.
        holder: the controller pod that renews its dynamic secrets; "" without any.
        now: the time.
        legacy: whether to write the conditions of upstream's v0.0.4, too.
    """
    expiries = {each.object_id: each.expires_at for each in result.expiries}
    status = SyncStatus(
        conditions=next_conditions(sync, synced, now=now, legacy=legacy),
        observed_generation=marks.generation,
        sync_hash=digest,
        last_success=now,
        last_attempt=now,
        objects=tuple(
            SyncedObject(each.id, each.version, _moment(expiries.get(each.id)))
            for each in result.versions
        ),
        observed_force=marks.force,
        observed_refresh=marks.refresh,
        observed_class=marks.class_version,
        observed_secret=secret,
        lease_holder=holder,
    )
    return _if_different(sync.status, status)


def failed_status(
    sync: SecretSync, failed: SyncFailed, *, now: datetime, legacy: bool
) -> SyncStatus | None:
    """Return the status after a failure; None if the same failure is reported already.

    Args:
        sync: with the status before the attempt.
        failed: why.
        now: the time.
        legacy: whether to write the conditions of upstream's v0.0.4, too.
    """
    status = replace(
        sync.status,
        conditions=next_conditions(sync, failed, now=now, legacy=legacy),
        observed_generation=sync.generation,
        last_attempt=now,
    )
    return _if_different(sync.status, status)


def without_times(status: SyncStatus) -> SyncStatus:
    """Return a status without the times of attempts."""
    return replace(status, last_success=None, last_attempt=None)


def _if_different(before: SyncStatus, after: SyncStatus) -> SyncStatus | None:
    return None if without_times(after) == without_times(before) else after


def _moment(seconds: int | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
