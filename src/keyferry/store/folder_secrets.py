"""The Secrets in a folder of manifests; everything here is done on a thread."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, assert_never

from keyferry.errors import StoreError
from keyferry.store.fields import FieldTypeError
from keyferry.store.interface import Applied, Effect
from keyferry.store.manifest_codec import (
    STATUS_KIND,
    merged_owners,
    secret_manifest,
    stored_secret,
    with_owners,
)
from keyferry.store.output_folder import Kind, OutputFolder
from keyferry.store.secret_rules import Create, Keep, Recreate, Update, judge

if TYPE_CHECKING:
    from collections.abc import Callable, Set

    from keyferry.store.interface import SecretManifest
    from keyferry.store.present_secret import PresentSecret
    from keyferry.store.yaml_documents import Value

T = TypeVar("T")


def find_secret(folder: OutputFolder, namespace: str, name: str) -> PresentSecret | None:
    """The Secret as it is; None when there is none."""
    manifest = folder.read(Kind.SECRET, namespace, name)
    if manifest is None:
        return None
    return parsed(_stored_secret, manifest, f"Secret {namespace}/{name}")


def apply_secret(folder: OutputFolder, secret: SecretManifest) -> Applied:
    """Make it what `secret_rules` decides."""
    at = Kind.SECRET, secret.namespace, secret.name
    with folder.locked():
        present = find_secret(folder, secret.namespace, secret.name)
        verdict = judge(secret, present)
        there = present.owners if present else ()
        owners = tuple(
            owner
            for owner in merged_owners(there, secret.owners)
            if owner.uid not in secret.disowned
        )
        if not isinstance(verdict, Keep):
            folder.write(*at, secret_manifest(secret, owners))
        elif owners != there:
            folder.write(*at, with_owners(folder.read(*at), owners))
        effect = Effect.UPDATED if owners != there else Effect.NONE
        match verdict:
            case Create():
                effect = Effect.CREATED
            case Update(reverts):
                effect = Effect.REVERTED if reverts else Effect.UPDATED
            case Recreate():
                effect = Effect.RECREATED
            case Keep():
                pass
            case _:
                assert_never(verdict)
        return Applied(effect, earlier_type=present.type if present else "")


def delete_secret(folder: OutputFolder, namespace: str, name: str, present: PresentSecret) -> bool:
    """Delete it if it still is as it was; False when it has changed since."""
    with folder.locked():
        now = find_secret(folder, namespace, name)
        if now == present:
            folder.remove_one(Kind.SECRET, namespace, name)
        return now is None or now == present


def collect_secrets(folder: OutputFolder, alive: Set[str]) -> None:
    """Take dead owners off our Secrets, and remove the Secrets that had no other."""
    for path, manifest in folder.everything(Kind.SECRET):
        secret = parsed_or_none(_stored_secret, manifest)
        if secret is None or not secret.ours:
            continue
        left = [o for o in secret.owners if o.kind != STATUS_KIND or o.uid in alive]
        if len(left) == len(secret.owners):
            continue
        if left:
            folder.replace(path, with_owners(manifest, left))
        else:
            folder.remove(path)


def _stored_secret(manifest: Value) -> PresentSecret:
    return stored_secret(manifest, api=False)


def parsed(parse: Callable[[Value], T], manifest: Value, who: str) -> T:
    """What `parse` makes of the manifest of `who`.

    Raises:
        StoreError: somebody changed it to what it cannot be.
    """
    try:
        return parse(manifest)
    except FieldTypeError as error:
        raise StoreError(
            f"the manifest of {who} was changed: {error.problem}", "Mend the file or remove it."
        ) from error


def parsed_or_none(parse: Callable[[Value], T], manifest: Value) -> T | None:
    """The same; None instead of an error."""
    try:
        return None if manifest is None else parse(manifest)
    except FieldTypeError:
        return None
