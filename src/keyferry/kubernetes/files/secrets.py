"""Reads and writes the Secrets of a directory of manifests; runs on worker threads."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, assert_never

from keyferry.errors import StoreError
from keyferry.formats.fields import FieldTypeError
from keyferry.kubernetes.files.directory import ManifestDirectory, ManifestKind
from keyferry.kubernetes.object_codec import (
    POD_STATUS_KIND,
    merge_owners,
    parse_secret,
    secret_manifest,
    with_owners,
)
from keyferry.kubernetes.objects import ApplyOutcome, ApplyResult
from keyferry.kubernetes.secret_plan import Create, Keep, Recreate, Update, plan_secret

if TYPE_CHECKING:
    from collections.abc import Callable, Set

    from keyferry.formats.kubernetes_yaml import Value
    from keyferry.kubernetes.live_secret import LiveSecret
    from keyferry.kubernetes.objects import DesiredSecret

T = TypeVar("T")


def read_secret(directory: ManifestDirectory, namespace: str, name: str) -> LiveSecret | None:
    """Return the live Secret, or None."""
    manifest = directory.read(ManifestKind.SECRET, namespace, name)
    if manifest is None:
        return None
    return parse_or_raise(_parse_file_secret, manifest, f"Secret {namespace}/{name}")


def write_secret(directory: ManifestDirectory, desired: DesiredSecret) -> ApplyResult:
    """Create or update a Secret as `plan_secret` decides."""
    at = ManifestKind.SECRET, desired.namespace, desired.name
    with directory.locked():
        present = read_secret(directory, desired.namespace, desired.name)
        verdict = plan_secret(desired, present)
        there = present.owners if present else ()
        owners = tuple(
            owner
            for owner in merge_owners(there, desired.owners)
            if owner.uid not in desired.removed_owner_uids
        )
        if not isinstance(verdict, Keep):
            directory.write(*at, secret_manifest(desired, owners))
        elif owners != there:
            directory.write(*at, with_owners(directory.read(*at), owners))
        effect = ApplyOutcome.UPDATED if owners != there else ApplyOutcome.UNCHANGED
        match verdict:
            case Create():
                effect = ApplyOutcome.CREATED
            case Update(reverts):
                effect = ApplyOutcome.REVERTED if reverts else ApplyOutcome.UPDATED
            case Recreate():
                effect = ApplyOutcome.RECREATED
            case Keep():
                pass
            case _:
                assert_never(verdict)
        return ApplyResult(effect, previous_type=present.type if present else "")


def remove_secret(
    directory: ManifestDirectory, namespace: str, name: str, expected: LiveSecret
) -> bool:
    """Delete a Secret if it is still `expected`. Returns False if it changed."""
    with directory.locked():
        now = read_secret(directory, namespace, name)
        if now == expected:
            directory.delete(ManifestKind.SECRET, namespace, name)
        return now is None or now == expected


def remove_orphaned_secrets(directory: ManifestDirectory, live_status_uids: Set[str]) -> None:
    """Remove deleted owners from managed Secrets, and Secrets without another owner."""
    for path, manifest in directory.list_all(ManifestKind.SECRET):
        secret = parse_or_none(_parse_file_secret, manifest)
        if secret is None or not secret.managed:
            continue
        left = [o for o in secret.owners if o.kind != POD_STATUS_KIND or o.uid in live_status_uids]
        if len(left) == len(secret.owners):
            continue
        if left:
            directory.replace_file(path, with_owners(manifest, left))
        else:
            directory.remove_file(path)


def _parse_file_secret(manifest: Value) -> LiveSecret:
    return parse_secret(manifest, from_api=False)


def parse_or_raise(parse: Callable[[Value], T], manifest: Value, subject: str) -> T:
    """Return `parse(manifest)`.

    Raises:
        StoreError: the manifest of `subject` is invalid.
    """
    try:
        return parse(manifest)
    except FieldTypeError as error:
        raise StoreError(
            f"the manifest of {subject} is invalid: {error.problem}",
            "Fix the YAML, or remove the file.",
        ) from error


def parse_or_none(parse: Callable[[Value], T], manifest: Value) -> T | None:
    """Return `parse(manifest)`; None if there is no manifest or it is invalid."""
    try:
        return None if manifest is None else parse(manifest)
    except FieldTypeError:
        return None
