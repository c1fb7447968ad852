"""Builds a Kubernetes Secret from the files that a provider delivered. [pure]

What the API server would reject (a name, a missing key, a format, a size) is reported here, where
the error can name the object.

Source: docs/reference/upstream-driver.md#secret-validation
Source: docs/reference/upstream-driver.md#object-names
"""

from __future__ import annotations

import difflib
import re
from enum import Enum
from typing import TYPE_CHECKING

from msgspec import Struct

from keyferry.content import SecretFile
from keyferry.errors import (
    ObjectMissingError,
    ObjectNamesError,
    SecretDataError,
    SecretTypeRefusedError,
    excerpt,
)
from keyferry.kubernetes.names import object_name_problem
from keyferry.kubernetes.objects import DesiredSecret, OwnerReference, SecretKeyMapping
from keyferry.secrets.secret_data import FilePart, KeyedFile, SecretDataRequest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from keyferry.content import MissingObject, NamedFile
    from keyferry.kubernetes.objects import SecretObject

_MAX_LISTED = 20
"""The maximum number of candidates in a message."""


class Definition(Enum):
    """What defines a Secret. Messages have the words of its author.

    In a SecretSync, `NAME/tls.crt` and `NAME/tls.key` also mean the parts of a certificate, as in
    Azure's sync controller.
    """

    SECRET_OBJECTS = "secretObjects"  # noqa: S105 - a field
    SECRET_SYNC = "SecretSync"  # noqa: S105 - a kind

    @property
    def name_field(self) -> str:
        """The field that names a file."""
        return "sourcePath" if self is Definition.SECRET_SYNC else "objectName"

    def not_found(self, name: str, listed: str) -> str:
        """Return the problem of a name that matches no file.

        Args:
            name: what the author wrote.
            listed: the files.
        """
        if self is Definition.SECRET_SYNC:
            return f"sourcePath {name!r} matches no file; the SecretProviderClass has {listed}"
        # Upstream's words.
        return f"file matching objectName {name!r} not found in the pod; the volume holds {listed}"

    @property
    def absent_remedy(self) -> str:
        """What to do about a file that the SecretProviderClass has, but the last fetch not."""
        if self is Definition.SECRET_SYNC:
            return "The provider did not return that file: check its object in the vault."
        return "It is new in the SecretProviderClass: wait for the next refresh or restart the pod."

    @property
    def size_remedy(self) -> str:
        """What to do about too many bytes."""
        if self is Definition.SECRET_SYNC:
            return "Split them over several SecretSyncs."
        return "Split them over several secretObjects, or let the pod read the volume."


def resolve_file(
    object_name: str, files: Sequence[SecretFile], named_files: Sequence[NamedFile]
) -> SecretFile:
    """Return the file at the path `object_name`, else the file of the object with that name.

    See `find_file`.

    Raises:
        ObjectNamesError: no file matches, or several do; the message lists the candidates.
        ObjectMissingError: it is an optional object that the vault does not have.
    """
    file = find_file(object_name, files, named_files)
    if not isinstance(file, SecretFile):
        subject = f"{file.object_name} is"
        if file.is_derived:
            subject = f"there is no file '{excerpt(file.path)}': its template needs"
        raise ObjectMissingError(
            f"{subject} an optional object that the vault does not have",
            "Create or enable it in the vault, or set default in its entry of objects.",
        )
    return file


def find_file(
    object_name: str,
    files: Sequence[SecretFile],
    named_files: Sequence[NamedFile],
    definition: Definition = Definition.SECRET_OBJECTS,
) -> SecretFile | NamedFile:
    """Return the file at the path `object_name`, else the file of the object with that name.

    Returns:
        The file, or the name of an optional object that the vault does not have.

    Args:
        object_name: `objectName` of the SecretProviderClass, trimmed; case-sensitive.
        files: all files of the volume.
        named_files: other names of files; entries whose path is not in `files` are ignored.
        definition: what has the name.

    Raises:
        ObjectNamesError: no file matches, or several do; the message lists the candidates.
    """
    by_path = {file.path: file for file in files}
    if not object_name:
        raise ObjectNamesError(
            "objectName is empty", "Set it to a file of the volume, its alias or its object."
        )
    if object_name in by_path:
        return by_path[object_name]
    present = [name for name in named_files if name.path in by_path and not name.is_folder]
    origins = {name.path: name.object_name for name in present if object_name in name.aliases}
    if not origins:
        absent = [name for name in named_files if name.path not in by_path]
        missing = [name for name in absent if name.optional and name.means(object_name)]
        if missing:
            return missing[0]
        raise _not_found_error(object_name, by_path, present, absent, definition)
    if len(origins) > 1:
        raise ObjectNamesError(
            f"{definition.name_field} {object_name!r} is ambiguous: it matches "
            f"{_format_candidates(origins, origins)}",
            "Use the path of the file instead.",
        )
    (path,) = origins
    return by_path[path]


def _not_found_error(
    object_name: str,
    paths: Iterable[str],
    present: Sequence[NamedFile],
    absent: Sequence[NamedFile],
    definition: Definition,
) -> ObjectNamesError:
    listed = _format_candidates(paths, {name.path: name.object_name for name in present})
    names = {*paths, *(alternative for name in present for alternative in name.aliases)}
    same = [name for name in sorted(names) if name.casefold() == object_name.casefold()]
    close = same or difflib.get_close_matches(object_name, sorted(names), n=1)
    meant = [name for name in absent if object_name in (name.path, *name.aliases)]
    folders = tuple(f"{name.path}/" for name in meant if name.is_folder)
    below = [path for path in sorted(paths) if path.startswith(folders)] if folders else []
    if folders:
        example = below[0] if below else f"{folders[0]}KEY"
        remedy = f"It is a folder: name one of its files, such as {example!r}."
    elif meant:
        remedy = definition.absent_remedy
    elif close:
        remedy = f"Did you mean {close[0]!r}?"
    else:
        remedy = "Use the path of a file (its alias, if it has one) or the name of its object."
    return ObjectNamesError(definition.not_found(object_name, listed), remedy)


def _format_candidates(paths: Iterable[str], origins: Mapping[str, str]) -> str:
    texts = [f"{path} ({origins[path]})" if path in origins else path for path in sorted(paths)]
    if len(texts) > _MAX_LISTED:
        texts[_MAX_LISTED:] = [f"{len(texts) - _MAX_LISTED} more"]
    return ", ".join(texts) or "no file"


REFUSED_TYPES = frozenset({"kubernetes.io/service-account-token"})
"""Types that make Kubernetes create a credential."""

TYPES_WITHOUT_KEYS = frozenset({"Opaque"})
"""Types that require no key, so that one of them may be missing.

The keys of other types belong together, such as a certificate and its key.
"""

MAX_SECRET_BYTES = 1024 * 1024
"""The limit of the API server for the sum of all values."""

ALL_FILES = "*"
"""`objectName` and `key` of an entry that means all files of the volume."""

_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}")


class ChosenFiles(Struct, frozen=True):
    """The files of a Secret.

    Attributes:
        request: the files by key; None if the Secret is left out, because no key is left or its
            type requires a missing one.
        kept_keys: of which an existing Secret keeps the last values. If there are none and no
            request, the Secret is deleted.
        optional_keys: of optional objects, which come and go.
        last_keys: keys that belong together, but whose files are from different fetches, because
            the volume keeps the last content of a missing object. An existing Secret with all of
            them keeps its values.
    """

    request: SecretDataRequest | None
    kept_keys: frozenset[str] = frozenset()
    optional_keys: frozenset[str] = frozenset()
    last_keys: frozenset[str] = frozenset()


def choose_files(
    secret_object: SecretObject,
    files: Sequence[SecretFile],
    named_files: Sequence[NamedFile],
    missing_objects: Sequence[MissingObject] = (),
    *,
    definition: Definition = Definition.SECRET_OBJECTS,
) -> ChosenFiles:
    """Choose the files of the Secret that `secret_object` defines.

    1. The key of a missing optional object is left out.
    2. If no key is left, or the type requires the keys, the Secret is left out.
    3. An existing Secret keeps what is left out, unless the vault lacks the object and its entry
       says `onMissing: remove`. A file may also be absent because the volume was not refreshed
       since the SecretProviderClass was edited.
    4. If the type requires the keys, and the volume keeps the files of some of them, but not of
       all, an existing Secret keeps its values.

    Args:
        secret_object: the Secret, its texts trimmed.
        files: all files of the volume.
        named_files: other names of files.
        missing_objects: the optional objects that the vault does not have.
        definition: what defines the Secret.

    Raises:
        ObjectNamesError: an `objectName` is unknown or ambiguous.
        SecretDataError: a field is missing or not allowed, or two entries have one key.
    """
    _check_fields(secret_object)
    chosen: dict[str, SecretFile] = {}
    parts: dict[str, FilePart] = {}
    missing: dict[str, NamedFile] = {}
    optional_keys = frozenset(
        entry.key
        for entry in secret_object.data
        if any(name.optional and name.means(entry.object_name) for name in named_files)
    )
    for entry in _with_all_files(secret_object, files):
        name = entry.object_name
        if definition is Definition.SECRET_SYNC:
            name, parts[entry.key] = _split_part(name, files, named_files)
        file = find_file(name, files, named_files, definition)
        if not isinstance(file, SecretFile):
            missing[entry.key] = file
            continue
        if chosen.setdefault(entry.key, file).path != file.path:
            raise _repeated_key_error(secret_object, entry.key, chosen[entry.key].path, file.path)
    removed = {
        key
        for key, name in missing.items()
        if any(each.has(name.path) and not each.keeps for each in missing_objects)
    }
    kept = missing.keys() - removed - chosen.keys()
    if missing and secret_object.type not in TYPES_WITHOUT_KEYS:
        return ChosenFiles(None, frozenset(() if removed else missing.keys() | chosen.keys()))
    if not chosen:
        return ChosenFiles(None, frozenset(kept))
    keyed = tuple(
        KeyedFile(key, file.path, file.contents, parts.get(key, FilePart.WHOLE))
        for key, file in chosen.items()
    )
    request = SecretDataRequest(secret_object.type, keyed)
    last_keys = _keys_of_different_fetches(secret_object.type, chosen, missing_objects)
    return ChosenFiles(request, frozenset(kept), optional_keys, last_keys)


def _keys_of_different_fetches(
    secret_type: str, chosen: Mapping[str, SecretFile], missing_objects: Sequence[MissingObject]
) -> frozenset[str]:
    """Return the keys if they belong together and the volume keeps some of the files, not all."""
    lost = [each for each in missing_objects if each.kept]
    kept = {any(each.has(file.path) for each in lost) for file in chosen.values()}
    belong_together = secret_type not in TYPES_WITHOUT_KEYS
    return frozenset(chosen if belong_together and len(kept) > 1 else ())


def _split_part(
    name: str, files: Sequence[SecretFile], named_files: Sequence[NamedFile]
) -> tuple[str, FilePart]:
    """Return the name of a file, and which part of it is meant."""

    def is_known(text: str) -> bool:
        return any(file.path == text for file in files) or any(
            each.means(text) for each in named_files
        )

    whole, _, suffix = name.rpartition("/")
    if is_known(name) or not is_known(whole):
        return name, FilePart.WHOLE
    part = next((each for each in FilePart if each.value == suffix), FilePart.WHOLE)
    return (whole if part is not FilePart.WHOLE else name), part


def _with_all_files(
    secret_object: SecretObject, files: Sequence[SecretFile]
) -> tuple[SecretKeyMapping, ...]:
    """Return the data of a Secret, with an entry for each file instead of `objectName: "*"`.

    Raises:
        SecretDataError: the path of a file cannot be a key.
    """
    entries: list[SecretKeyMapping] = []
    for entry in secret_object.data:
        if entry.object_name != ALL_FILES:
            entries.append(entry)
            continue
        for path in sorted(file.path for file in files):
            key = path.replace("/", ".")
            if not _KEY.fullmatch(key) or key.startswith(".."):
                raise SecretDataError(
                    f"the file {path[:80]!r} cannot be a key of secret {secret_object.name!r}",
                    "Change its path with rewrite or objectAlias, or list the files one by one.",
                )
            entries.append(SecretKeyMapping(path, key))
    return tuple(entries)


def _repeated_key_error(secret_object: SecretObject, key: str, *paths: str) -> SecretDataError:
    entries = [
        f"data[{index}] (objectName {entry.object_name[:80]!r})"
        for index, entry in enumerate(secret_object.data)
        if entry.key == key
    ]
    if len(entries) < len(paths):  # one of them is in `objectName: "*"`
        entries = [f"the file {path[:80]!r}" for path in paths]
    return SecretDataError(
        f"{' and '.join(entries[:_MAX_LISTED])} of secret {secret_object.name!r} have the same key "
        f"{key!r}",
        "Give each of them a key of its own, or remove all but one.",
    )


def check_single_entry(entries: Sequence[SecretObject], name: str) -> None:
    """Check that the entries of `secretObjects` that define one Secret are equal.

    Args:
        entries: all entries of the SecretProviderClass.
        name: the Secret.

    Raises:
        SecretDataError: two entries define it differently; the message names their places.
    """
    places = [index for index, entry in enumerate(entries) if entry.name == name]
    if all(entries[index] == entries[places[0]] for index in places):
        return
    named = " and ".join(f"spec.secretObjects[{index}]" for index in places[:_MAX_LISTED])
    raise SecretDataError(
        f"{named} define the same secret {name!r}",
        "Give each of them a secretName of its own, or list all keys under data of one of them.",
    )


def build_secret(
    namespace: str,
    secret_object: SecretObject,
    data: Mapping[str, bytes],
    owners: tuple[OwnerReference, ...],
    *,
    definition: Definition = Definition.SECRET_OBJECTS,
) -> DesiredSecret:
    """Build the Secret that `secret_object` defines.

    Args:
        namespace: the namespace of the SecretProviderClass, the pod and the Secret.
        secret_object: the entry of `secretObjects`, its texts trimmed.
        data: the result of `secret_data`.
        owners: the owner references of the Secret.
        definition: what defines the Secret.

    Raises:
        SecretDataError: the values are too large.
    """
    size = sum(map(len, data.values()))
    if size > MAX_SECRET_BYTES:
        raise SecretDataError(
            f"the values of secret {secret_object.name!r} have {size} bytes in total; "
            f"the limit of Kubernetes is {MAX_SECRET_BYTES}",
            definition.size_remedy,
        )
    return DesiredSecret(
        namespace=namespace,
        name=secret_object.name,
        type=secret_object.type,
        data=dict(data),
        labels=secret_object.labels,
        annotations=secret_object.annotations,
        owners=owners,
    )


def _check_fields(secret_object: SecretObject) -> None:
    name = secret_object.name
    if not name:
        raise SecretDataError("an entry of spec.secretObjects has no secretName", "Set secretName.")
    if problem := object_name_problem(name):
        raise SecretDataError(
            f"secretName {name[:80]!r} {problem}", "Choose a valid Kubernetes name."
        )
    if not secret_object.type:
        raise SecretDataError(f"secret {name!r} has no type", "Set type, for example to Opaque.")
    if secret_object.type in REFUSED_TYPES:
        raise SecretTypeRefusedError(
            f"secret {name!r} has type {secret_object.type}: Kubernetes would add a token of a "
            "service account that does not expire",
            "Use type Opaque for content from a vault.",
        )
    if not secret_object.data:
        raise SecretDataError(
            f"secret {name!r} has no data", "List at least one objectName with its key under data."
        )
    _check_keys(secret_object)


def _check_keys(secret_object: SecretObject) -> None:
    name = secret_object.name
    for index, entry in enumerate(secret_object.data):
        if (entry.object_name == ALL_FILES) != (entry.key == ALL_FILES):
            raise SecretDataError(
                f"data[{index}] of secret {name!r} has '*' as only one of objectName and key",
                "Write '*' for both to sync all files of the volume.",
            )
        if entry.key == ALL_FILES:
            continue
        if not entry.key:
            raise SecretDataError(f"data[{index}] of secret {name!r} has no key", "Set key.")
        if not _KEY.fullmatch(entry.key) or entry.key.startswith(".."):
            raise SecretDataError(
                f"key {entry.key[:80]!r} of secret {name!r} is not a valid key of a Secret",
                "Use 1 to 253 letters, digits, '-', '_' and '.'; it must not start with '..'.",
            )
