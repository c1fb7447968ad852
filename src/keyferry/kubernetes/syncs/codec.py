"""Converts SecretSyncs from manifests, and their status to a patch. [pure]

The API server validates SecretSyncs with the CRD, but that may be one of another controller, so
every field is checked again. An invalid SecretSync is parsed as far as possible, because its status
must say what is wrong.

Thousands of SecretSyncs are cached, so equal texts, times and small objects are shared.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING

from msgspec import Struct

from keyferry.errors import excerpt
from keyferry.formats.fields import Field, FieldTypeError, parse_time
from keyferry.formats.volume_paths import path_problem
from keyferry.kubernetes.class_codec import CLASS_KIND
from keyferry.kubernetes.names import MAX_SUBDOMAIN, object_name_problem
from keyferry.kubernetes.objects import SecretKeyMapping, SecretObject
from keyferry.kubernetes.syncs.fields import RESERVED_PREFIX, unknown_fields
from keyferry.kubernetes.syncs.groups import SYNC_KIND
from keyferry.kubernetes.syncs.objects import (
    Condition,
    ConditionStatus,
    InvalidField,
    InvalidKind,
    SecretSync,
    SyncedObject,
    SyncRef,
    SyncStatus,
)
from keyferry.kubernetes.syncs.options import credentials_problem, parse_options
from keyferry.kubernetes.syncs.sync_errors import SyncInvalidError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypeVar

    from keyferry.formats.kubernetes_yaml import FieldPath, Value
    from keyferry.kubernetes.object_codec import Manifest
    from keyferry.kubernetes.syncs.groups import SyncGroup

    T = TypeVar("T")

DEFAULT_TYPE = "Opaque"
_SECRET_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}")
NO_STATUS = SyncStatus()
_NO_TEXTS: Mapping[str, str] = MappingProxyType({})
_SHARED = 4096
"""Values of each kind that are shared at most."""


@lru_cache(_SHARED)
def _shared(text: str) -> str:
    return text


_key_mapping = lru_cache(_SHARED)(SecretKeyMapping)
_synced_object = lru_cache(_SHARED)(SyncedObject)


# --- SecretSyncs ----------------------------------------------------------------------------------


def parse_sync(
    manifest: Value, group: SyncGroup, *, spelling: Callable[[FieldPath], str] = lambda _: ""
) -> SecretSync:
    """Parse a SecretSync. With an invalid field, `SecretSync.invalid` is set.

    Args:
        manifest: the whole object.
        group: the API group and version that serves it.
        spelling: returns a scalar as it is written.

    Raises:
        SyncInvalidError: it has no namespace, name or uid, so it does not come from an API server.
    """
    root = Field(manifest, spelling=spelling)
    try:
        metadata = root["metadata"]
        ref = SyncRef(
            group,
            _shared(metadata["namespace"].text()),
            metadata["name"].text(),
            metadata["uid"].text(),
        )
        generation = metadata["generation"].number()
        resource_version = metadata["resourceVersion"].text()
        created_at = _parse_time(metadata["creationTimestamp"])
        terminating = metadata["deletionTimestamp"].value is not None
        options = parse_options(metadata["annotations"].text_mapping())
    except FieldTypeError as error:
        raise SyncInvalidError(f"{SYNC_KIND}: {error.problem}", error.remedy) from error
    if not (ref.namespace and ref.name and ref.uid):
        raise SyncInvalidError(
            f"{SYNC_KIND}: metadata has no namespace, name or uid",
            "Check what answers at the address of the Kubernetes API.",
        )
    spec, invalid = _parse_spec(root["spec"], ref.name)
    return SecretSync(
        ref=ref,
        class_name=spec.class_name,
        service_account=spec.service_account,
        controller_name=spec.controller_name,
        force_synchronization=spec.force_synchronization,
        secret_object=spec.secret_object,
        generation=generation,
        created_at=created_at,
        terminating=terminating,
        options=options,
        invalid=invalid or credentials_problem(options),
        status=_or_default(lambda: _parse_status(root["status"]), NO_STATUS),
        unknown_fields=_or_default(lambda: unknown_fields(root), ()),
        resource_version=resource_version,
    )


class _Spec(Struct, frozen=True):
    """The spec of a SecretSync; fields that cannot be read are empty."""

    class_name: str
    service_account: str
    controller_name: str
    force_synchronization: str
    secret_object: SecretObject


def _parse_spec(spec: Field, name: str) -> tuple[_Spec, InvalidField | None]:
    """Parse the spec; return its first problem, too."""
    problems: list[InvalidField] = []

    def text(key: str) -> str:
        try:
            return _shared(spec[key].text().strip())
        except FieldTypeError as error:
            problems.append(InvalidField(error.problem, error.remedy))
            return ""

    parsed = _Spec(
        class_name=text("secretProviderClassName"),
        service_account=text("serviceAccountName"),
        controller_name=text("secretSyncControllerName"),
        force_synchronization=text("forceSynchronization"),
        secret_object=SecretObject(name, DEFAULT_TYPE, ()),
    )
    try:
        secret = spec["secretObject"]
        parsed = _Spec(
            parsed.class_name,
            parsed.service_account,
            parsed.controller_name,
            parsed.force_synchronization,
            _parse_secret_object(secret, name),
        )
    except FieldTypeError as error:
        problems.append(InvalidField(error.problem, error.remedy))
    if problems:
        return parsed, problems[0]
    return parsed, _name_problem(parsed) or _secret_problem(parsed.secret_object)


def _parse_secret_object(secret: Field, name: str) -> SecretObject:
    return SecretObject(
        name=name,
        type=_shared(secret["type"].text().strip()) or DEFAULT_TYPE,
        data=tuple(
            _key_mapping(item["sourcePath"].text().strip(), item["targetKey"].text().strip())
            for item in secret["data"].items()
        ),
        labels=secret["labels"].text_mapping() or _NO_TEXTS,
        annotations=secret["annotations"].text_mapping() or _NO_TEXTS,
    )


def _name_problem(spec: _Spec) -> InvalidField | None:
    names = (
        ("spec.secretProviderClassName", spec.class_name, CLASS_KIND),
        ("spec.serviceAccountName", spec.service_account, "ServiceAccount"),
    )
    for field, name, kind in names:
        remedy = f"Write the name of a {kind} of the same namespace."
        if not name:
            return InvalidField(f"{field} is not set", remedy)
        if problem := object_name_problem(name):
            return InvalidField(f"{field} {excerpt(name)!r} {problem}", remedy)
    return None


def _secret_problem(secret: SecretObject) -> InvalidField | None:
    if not secret.data:
        return InvalidField(
            "spec.secretObject.data is empty",
            "Add an item with sourcePath and targetKey for each key of the Secret.",
        )
    keys: set[str] = set()
    for at, item in enumerate(secret.data):
        if found := _item_problem(f"spec.secretObject.data[{at}]", item, keys):
            return found
        keys.add(item.key)
    remedy = "Remove it: the controller sets it."
    for label, value in secret.labels.items():
        if label.startswith(RESERVED_PREFIX) and (label, value) != (RESERVED_PREFIX, ""):
            problem = f"spec.secretObject.labels: label {excerpt(label)} is reserved"
            return InvalidField(problem, remedy, InvalidKind.RESERVED_LABEL)
    for annotation in secret.annotations:
        if annotation.startswith(RESERVED_PREFIX):
            problem = f"spec.secretObject.annotations: annotation {excerpt(annotation)} is reserved"
            return InvalidField(problem, remedy, InvalidKind.RESERVED_ANNOTATION)
    return None


def _item_problem(path: str, item: SecretKeyMapping, keys: set[str]) -> InvalidField | None:
    if problem := path_problem(item.object_name):
        return InvalidField(
            f"{path}.sourcePath {excerpt(item.object_name)!r} {problem}",
            "Write the path of a file of the SecretProviderClass.",
        )
    if not _SECRET_KEY.fullmatch(item.key):
        return InvalidField(
            f"{path}.targetKey {excerpt(item.key)!r} is not a valid key of a Secret",
            f"Use letters, digits, '-', '_' and '.', at most {MAX_SUBDOMAIN} characters.",
        )
    if item.key in keys:
        return InvalidField(
            f"{path}.targetKey {item.key!r} occurs twice", "Write one item for each key."
        )
    return None


# --- status ---------------------------------------------------------------------------------------


def _parse_status(status: Field) -> SyncStatus:
    parsed = SyncStatus(
        conditions=tuple(_parse_condition(item) for item in status["conditions"].items()),
        observed_generation=status["observedGeneration"].number(),
        sync_hash=status["syncHash"].text(),
        last_success=_parse_time(status["lastSuccessfulSyncTime"]),
        last_attempt=_parse_time(status["lastAttemptTime"]),
        objects=tuple(
            _synced_object(item["id"].text(), item["version"].text(), _parse_time(item["expires"]))
            for item in status["objects"].items()
        ),
        observed_force=status["observedForceSynchronization"].text(),
        observed_refresh=status["observedRefresh"].text(),
        lease_holder=_shared(status["leaseHolder"].text()),
        observed_class=_shared(_parse_observed_class(status["observedClass"])),
        observed_secret=_parse_observed_secret(status["observedSecret"]),
    )
    return NO_STATUS if parsed == NO_STATUS else parsed


def _parse_observed_class(observed: Field) -> str:
    uid = observed["uid"].text()
    return f"{uid}/{observed['generation'].number()}" if uid else ""


def _parse_observed_secret(observed: Field) -> str:
    uid = observed["uid"].text()
    return f"{uid}/{observed['resourceVersion'].text()}" if uid else ""


def _parse_condition(item: Field) -> Condition:
    written = item["status"].text()
    known = written in _STATUSES
    return Condition(
        type=_shared(item["type"].text()),
        status=ConditionStatus(written) if known else ConditionStatus.UNKNOWN,
        reason=_shared(item["reason"].text()),
        message=_shared(item["message"].text()),
        transitioned_at=_parse_time(item["lastTransitionTime"]),
        observed_generation=item["observedGeneration"].number(),
    )


_STATUSES = frozenset(status.value for status in ConditionStatus)


def status_patch(status: SyncStatus) -> Manifest:
    """Return a JSON merge patch for the status subresource.

    Lists are whole. An unknown `lastSuccessfulSyncTime` or `lastAttemptTime` is left as it is;
    every other field that is unknown is removed.
    """
    class_uid, _, generation = status.observed_class.partition("/")
    secret_uid, _, version = status.observed_secret.partition("/")
    patch: Manifest = {
        "conditions": [_condition_manifest(condition) for condition in status.conditions],
        "observedGeneration": status.observed_generation or None,
        "syncHash": status.sync_hash or None,
        "objects": [_object_manifest(item) for item in status.objects],
        "observedForceSynchronization": status.observed_force or None,
        "observedRefresh": status.observed_refresh or None,
        "leaseHolder": status.lease_holder or None,
        "observedClass": (
            {"uid": class_uid, "generation": int(generation)} if generation.isdecimal() else None
        ),
        "observedSecret": {"uid": secret_uid, "resourceVersion": version} if version else None,
    }
    if status.last_success is not None:
        patch["lastSuccessfulSyncTime"] = format_time(status.last_success)
    if status.last_attempt is not None:
        patch["lastAttemptTime"] = format_time(status.last_attempt)
    return {"status": patch}


def _condition_manifest(condition: Condition) -> Manifest:
    generation = condition.observed_generation
    return {
        "type": condition.type,
        "status": condition.status.value,
        "reason": condition.reason,
        "message": condition.message,
        "lastTransitionTime": format_time(condition.transitioned_at or _EPOCH),
        **({"observedGeneration": generation} if generation else {}),
    }


def _object_manifest(item: SyncedObject) -> Manifest:
    expires = {} if item.expires is None else {"expires": format_time(item.expires)}
    return {"id": item.id, "version": item.version, **expires}


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
"""CRDs require a time of each condition."""


def format_time(moment: datetime) -> str:
    """Return a time as Kubernetes writes it, in whole seconds of UTC."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _parse_time(field: Field) -> datetime | None:
    """Return the time of a field; None if it is empty, or not a time with a zone."""
    text = field.text()
    return _moment(text) if text else None


_moment = lru_cache(_SHARED)(parse_time)


def _or_default(parse: Callable[[], T], default: T) -> T:
    """Return what `parse` returns; `default` if a field has the wrong type."""
    try:
        return parse()
    except FieldTypeError:
        return default
