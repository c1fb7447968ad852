"""Reads and writes the Secrets of a directory of manifests; runs on worker threads."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, assert_never

from keyferry.errors import StoreError
from keyferry.formats.fields import Field, FieldTypeError
from keyferry.kubernetes.files.directory import ManifestDirectory, ManifestKind
from keyferry.kubernetes.live_secret import AppliedKeys
from keyferry.kubernetes.object_codec import (
    POD_STATUS_KIND,
    merge_owners,
    parse_secret,
    secret_manifest,
    with_owners,
)
from keyferry.kubernetes.objects import ApplyOutcome, ApplyResult
from keyferry.kubernetes.secret_change import Adopt, Create, Keep, Recreate, Update
from keyferry.kubernetes.secret_plan import for_live_secret, plan_secret, replaced_keys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Set

    from keyferry.formats.kubernetes_yaml import Value
    from keyferry.kubernetes.live_secret import LiveSecret
    from keyferry.kubernetes.object_codec import Manifest
    from keyferry.kubernetes.objects import DesiredSecret, OwnerReference

T = TypeVar("T")


def read_secret(directory: ManifestDirectory, namespace: str, name: str) -> LiveSecret | None:
    """Return the live Secret, or None."""
    manifest = directory.read(ManifestKind.SECRET, namespace, name)
    if manifest is None:
        return None
    return parse_or_raise(_parse_file_secret, manifest, f"Secret {namespace}/{name}")


def write_secret(directory: ManifestDirectory, wanted: DesiredSecret) -> ApplyResult:
    """Create or update a Secret as `plan_secret` decides."""
    at = ManifestKind.SECRET, wanted.namespace, wanted.name
    with directory.locked():
        present = read_secret(directory, wanted.namespace, wanted.name)
        desired = for_live_secret(wanted, present)
        verdict = plan_secret(desired, present)
        there = present.owners if present else ()
        # Adopted Secrets, too, have owners here: `remove_orphaned_secrets` knows what they mean.
        owners = tuple(
            owner
            for owner in merge_owners(there, wanted.owners)
            if owner.uid not in wanted.removed_owner_uids
        )
        if desired.adopted and not isinstance(verdict, Keep):
            directory.write(*at, with_owners(_with_adopted(directory.read(*at), desired), owners))
        elif not isinstance(verdict, Keep):
            directory.write(*at, secret_manifest(desired, owners))
        elif owners != there:
            directory.write(*at, with_owners(directory.read(*at), owners))
        effect = ApplyOutcome.UPDATED if owners != there else ApplyOutcome.UNCHANGED
        match verdict:
            case Create():
                effect = ApplyOutcome.CREATED
            case Adopt():
                effect = ApplyOutcome.ADOPTED
            case Update(reverts):
                effect = ApplyOutcome.REVERTED if reverts else ApplyOutcome.UPDATED
            case Recreate():
                effect = ApplyOutcome.RECREATED
            case Keep():
                pass
            case _:
                assert_never(verdict)
        return ApplyResult(
            effect,
            previous_type=present.type if present else "",
            replaced_keys=(
                replaced_keys(desired, present)
                if present and isinstance(verdict, Update | Adopt)
                else ()
            ),
        )


def remove_secret(
    directory: ManifestDirectory, namespace: str, name: str, expected: LiveSecret
) -> bool:
    """Delete a Secret if it is still `expected`. Returns False if it changed."""
    with directory.locked():
        now = read_secret(directory, namespace, name)
        if now == expected:
            directory.delete(ManifestKind.SECRET, namespace, name)
        return now is None or now == expected


def release_secret(
    directory: ManifestDirectory, namespace: str, name: str, expected: LiveSecret
) -> bool:
    """Remove what Keyferry wrote to an adopted Secret. Returns False if it changed."""
    at = ManifestKind.SECRET, namespace, name
    with directory.locked():
        now = read_secret(directory, namespace, name)
        if now is not None and now == expected:
            directory.write(*at, _without_adopted(directory.read(*at), now, ()))
        return now is None or now == expected


def remove_orphaned_secrets(directory: ManifestDirectory, live_status_uids: Set[str]) -> None:
    """Remove deleted owners from managed Secrets, and Secrets without another owner.

    Of an adopted Secret, only the keys of Keyferry are removed.
    """
    for path, manifest in directory.list_all(ManifestKind.SECRET):
        secret = parse_or_none(_parse_file_secret, manifest)
        if secret is None or not secret.managed:
            continue
        statuses = {owner.uid for owner in secret.owners if owner.kind == POD_STATUS_KIND}
        if statuses <= live_status_uids:
            continue
        left = [o for o in secret.owners if o.uid in live_status_uids or o.uid not in statuses]
        if secret.adopted and not statuses & live_status_uids:
            directory.replace_file(path, _without_adopted(manifest, secret, left))
        elif left:
            directory.replace_file(path, with_owners(manifest, left))
        else:
            directory.remove_file(path)


def _with_adopted(manifest: Value, desired: DesiredSecret) -> Manifest:
    """Return the manifest of somebody else with the desired keys, and without outdated ones."""
    base = Field(_without_adopted(manifest, _parse_file_secret(manifest), ()))
    managed = Field(secret_manifest(desired, ()))
    metadata = {**managed["metadata"].mapping(), **base["metadata"].mapping()}
    for name in ("labels", "annotations"):
        merged = {**base["metadata"][name].mapping(), **managed["metadata"][name].mapping()}
        metadata[name] = merged
    data = {**base["data"].mapping(), **managed["data"].mapping()}
    return {**managed.mapping(), **base.mapping(), "metadata": metadata, "data": data}


def _without_adopted(
    manifest: Value, secret: LiveSecret, owners: Iterable[OwnerReference]
) -> Manifest:
    """Return the manifest without what Keyferry wrote, and with these owners."""
    root = Field(manifest)
    metadata = dict(root["metadata"].mapping())
    keys = secret.applied_keys if secret.adopted else AppliedKeys()
    for name, removed in (("labels", keys.labels), ("annotations", keys.annotations)):
        left = {k: v for k, v in root["metadata"][name].mapping().items() if k not in removed}
        metadata.pop(name, None)
        if left:
            metadata[name] = left
    data = {k: v for k, v in root["data"].mapping().items() if k not in keys.data}
    return with_owners({**root.mapping(), "metadata": metadata, "data": data}, owners)


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
