"""The Secrets that Keyferry writes: what defines each of them, and who would miss it.

Only their metadata is used. Invalid objects, which only somebody else can have written, are
skipped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from keyferry.formats.fields import get, items, parse_time, text
from keyferry.inventory.users import (
    CURRENT,
    ENVIRONMENT,
    OLD,
    SecretUser,
    environment_secrets,
)
from keyferry.kubernetes.class_codec import CLASS_KIND
from keyferry.kubernetes.live_secret import CLASS_ANNOTATION, FETCHED_AT_ANNOTATION
from keyferry.kubernetes.markings import SYNC_LABEL
from keyferry.kubernetes.syncs.groups import SYNC_KIND

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime

    from keyferry.formats.kubernetes_yaml import Value
    from keyferry.kubernetes.object_codec import Manifest

UNUSED = "unused"


class ManagedSecret(Struct, frozen=True):
    """A Secret that Keyferry writes.

    Attributes:
        namespace: of the Secret.
        name: of the Secret.
        kind: of what defines it: `SecretSync` or `SecretProviderClass`.
        source: its name; "" if the Secret does not name it, as with the upstream driver.
        changed_at: when its data last changed; None if unknown.
    """

    namespace: str
    name: str
    kind: str
    source: str
    changed_at: datetime | None = None


class SecretRow(Struct, frozen=True):
    """One use of a Secret that Keyferry writes, or a Secret that nobody uses.

    Attributes:
        secret: the Secret.
        kind: of the user; "" without one.
        user: its name.
        usage: as in `SecretUser`, or `unused`.
        environment: `current` or `old`, if a container of a pod has the Secret in its environment;
            "" otherwise, or if that is unknown.
    """

    secret: ManagedSecret
    kind: str
    user: str
    usage: str
    environment: str = ""


def managed_secrets(manifests: Iterable[Manifest]) -> list[ManagedSecret]:
    """Return the Secrets, sorted by namespace and name.

    Args:
        manifests: metadata of Secrets with a label of Keyferry; a Secret may occur twice.
    """
    found = {}
    for manifest in manifests:
        secret = _managed_secret(manifest)
        found[secret.namespace, secret.name] = secret
    return [found[key] for key in sorted(found)]


def secret_rows(
    secrets: Iterable[ManagedSecret], users: Iterable[SecretUser], pods: Iterable[Manifest]
) -> list[SecretRow]:
    """Return a row for each use of each Secret, in the order of the Secrets.

    Args:
        secrets: of one or all namespaces.
        users: of any Secrets, sorted.
        pods: say when containers started.
    """
    used: dict[tuple[str, str], list[SecretUser]] = {}
    for user in users:
        used.setdefault((user.namespace, user.secret), []).append(user)
    started = {
        (text(get(pod, "metadata", "namespace")), text(get(pod, "metadata", "name"))): (
            environment_secrets(pod)
        )
        for pod in pods
    }
    return [
        SecretRow(secret, user.kind, user.name, user.usage, _environment(secret, user, started))
        for secret in secrets
        for user in used.get((secret.namespace, secret.name), _nobody(secret))
    ]


def _nobody(secret: ManagedSecret) -> list[SecretUser]:
    return [SecretUser(secret.namespace, secret.name, "", "", UNUSED)]


def _environment(
    secret: ManagedSecret,
    user: SecretUser,
    started: Mapping[tuple[str, str], Mapping[str, datetime | None]],
) -> str:
    """Return whether the oldest container of a pod started before the Secret changed."""
    if (user.kind, user.usage) != ("Pod", ENVIRONMENT):
        return ""
    start = started.get((user.namespace, user.name), {}).get(user.secret)
    if start is None or secret.changed_at is None:
        return ""
    return OLD if start < secret.changed_at else CURRENT


def _managed_secret(manifest: Manifest) -> ManagedSecret:
    metadata = get(manifest, "metadata")
    labels, annotations = get(metadata, "labels"), get(metadata, "annotations")
    by_sync = isinstance(labels, dict) and SYNC_LABEL in labels
    owners = (text(get(each, "name")) for each in _owners(metadata, SYNC_KIND))
    fetched_at = parse_time(text(get(annotations, FETCHED_AT_ANNOTATION)))
    return ManagedSecret(
        text(get(metadata, "namespace")),
        text(get(metadata, "name")),
        SYNC_KIND if by_sync else CLASS_KIND,
        next(owners, "") if by_sync else text(get(annotations, CLASS_ANNOTATION)),
        _written_at(metadata) if by_sync else fetched_at or _written_at(metadata),
    )


def _owners(metadata: Value, kind: str) -> Iterator[Value]:
    for owner in items(get(metadata, "ownerReferences")):
        if get(owner, "kind") == kind:
            yield owner


def _written_at(metadata: Value) -> datetime | None:
    """Return when somebody last wrote data, from the field managers; None if unknown.

    An entry of managedFields has the names of fields, no values. Its time is that of the last
    change of one of them.
    """
    times = (
        parse_time(text(get(entry, "time")))
        for entry in items(get(metadata, "managedFields"))
        if get(entry, "fieldsV1", "f:data") is not None
    )
    return max((each for each in times if each is not None), default=None)
