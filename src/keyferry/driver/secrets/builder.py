"""One Kubernetes Secret, built from the files of a volume. [pure]

What the API server would refuse (a name, a missing key, a form, a size) is said here, where the
object can be named.

Source: docs/reference/upstream-driver.md#secret-validation
Source: docs/reference/upstream-driver.md#object-names
Source: docs/reference/upstream-driver.md#tls-secrets
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from keyferry.content import SecretFile
from keyferry.errors import ObjectNamesError, SecretDataError
from keyferry.formats import certs
from keyferry.kubernetes.names import object_name_problem
from keyferry.kubernetes.objects import DesiredSecret, OwnerReference, SecretObject

if TYPE_CHECKING:
    from collections.abc import Iterable

    from keyferry.kubernetes.objects import Pod
    from keyferry.providers.api import NamedFile

_MAX_LISTED = 20
"""How many candidates a message lists."""


def resolve_file(
    object_name: str, files: Sequence[SecretFile], named_files: Sequence[NamedFile]
) -> SecretFile:
    """The file at that path, else the file of the object with that name.

    Args:
        object_name: case-sensitive, trimmed.
        files: the whole content of the volume.
        named_files: the names beside the paths; one whose path is not among `files` counts for
            nothing.

    Raises:
        ObjectNamesError: there is none, or the name fits several; the message lists the candidates.
    """
    by_path = {file.path: file for file in files}
    if not object_name:
        raise ObjectNamesError(
            "objectName is empty", "Name a file of the volume, its alias or its object."
        )
    if object_name in by_path:
        return by_path[object_name]
    present = [name for name in named_files if name.path in by_path]
    origins = {name.path: name.object_name for name in present if object_name in name.aliases}
    if not origins:
        absent = [name for name in named_files if name.path not in by_path]
        raise _not_found_error(object_name, by_path, present, absent)
    if len(origins) > 1:
        raise ObjectNamesError(
            f"objectName {object_name!r} is ambiguous: it fits "
            f"{_format_candidates(origins, origins)}",
            "Use the path of the file that you mean.",
        )
    (path,) = origins
    return by_path[path]


def _not_found_error(
    object_name: str,
    paths: Iterable[str],
    present: Sequence[NamedFile],
    absent: Iterable[NamedFile],
) -> ObjectNamesError:
    listed = _format_candidates(paths, {name.path: name.object_name for name in present})
    names = {*paths, *(alternative for name in present for alternative in name.aliases)}
    close = difflib.get_close_matches(object_name, sorted(names), n=1)
    if any(object_name == name.path or object_name in name.aliases for name in absent):
        remedy = "The class names it since; the next refresh brings it, or a restart of the pod."
    elif close:
        remedy = f"Did you mean {close[0]!r}?"
    else:
        remedy = "Use the path of a file (its alias, where it has one) or the name of its object."
    return ObjectNamesError(
        f"file matching objectName {object_name!r} not found in the pod; the volume holds {listed}",
        remedy,
    )


def _format_candidates(paths: Iterable[str], origins: Mapping[str, str]) -> str:
    texts = [f"{path} ({origins[path]})" if path in origins else path for path in sorted(paths)]
    if len(texts) > _MAX_LISTED:
        texts[_MAX_LISTED:] = [f"{len(texts) - _MAX_LISTED} more"]
    return ", ".join(texts) or "no file"


MAX_SECRET_BYTES = 1024 * 1024
"""The sum of all values; the limit of the API server."""

_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}")

_Files = Mapping[str, SecretFile]
"""The chosen files by the keys of the Secret."""


def build_secret(
    namespace: str,
    secret_object: SecretObject,
    files: Sequence[SecretFile],
    named_files: Sequence[NamedFile],
    owners: tuple[OwnerReference, ...],
) -> DesiredSecret:
    """The Secret that `secret_object` asks for.

    A key that is given twice has its last value, as upstream.

    Args:
        namespace: of the class, the pod and the Secret.
        secret_object: the entry of `secretObjects`, its texts trimmed.
        files: the whole content of the volume.
        named_files: the names beside the paths by which the entry may call the files.
        owners: go into the Secret as they are.

    Raises:
        ObjectNamesError: an `objectName` is unknown or ambiguous.
        SecretDataError: a field is missing, or the files cannot make a Secret of this type.
    """
    _check_fields(secret_object)
    chosen = {
        entry.key: resolve_file(entry.object_name, files, named_files)
        for entry in secret_object.data
    }
    data = _DATA_OF_TYPE.get(secret_object.type, _verbatim)(chosen)
    size = sum(map(len, data.values()))
    if size > MAX_SECRET_BYTES:
        raise SecretDataError(
            f"the values of secret {secret_object.name!r} are {size} bytes together, "
            f"and Kubernetes takes {MAX_SECRET_BYTES}",
            "Spread them over several secretObjects, or let the pod read the volume.",
        )
    return DesiredSecret(
        namespace=namespace,
        name=secret_object.name,
        type=secret_object.type,
        data=data,
        labels=secret_object.labels,
        annotations=secret_object.annotations,
        owners=owners,
    )


def _check_fields(secret_object: SecretObject) -> None:
    name = secret_object.name
    if not name:
        raise SecretDataError(
            "an entry of spec.secretObjects has no secretName", "Give it the name of the Secret."
        )
    if problem := object_name_problem(name):
        raise SecretDataError(
            f"secretName {name[:80]!r} {problem}", "Kubernetes refuses such a name; choose another."
        )
    if not secret_object.type:
        raise SecretDataError(f"secret {name!r} has no type", "Set type, for example to Opaque.")
    if not secret_object.data:
        raise SecretDataError(
            f"secret {name!r} has no data", "List at least one objectName with its key under data."
        )
    for entry in secret_object.data:
        if not _KEY.fullmatch(entry.key) or entry.key.startswith(".."):
            raise SecretDataError(
                f"key {entry.key[:80]!r} of secret {name!r} cannot be a key of a Secret",
                "It takes 1 to 253 letters, digits, '-', '_' and '.', with no '..' at its start.",
            )


# --- what each type asks for ----------------------------------------------------------------------


def _verbatim(chosen: _Files) -> dict[str, bytes]:
    return {key: file.contents for key, file in chosen.items()}


def _tls(chosen: _Files) -> dict[str, bytes]:
    if chosen.keys() != {"tls.crt", "tls.key"}:
        raise SecretDataError(
            f"type kubernetes.io/tls asks for the keys tls.crt and tls.key, not {_keys(chosen)}",
            "Give both; they may name one object that holds the certificate and its key.",
        )
    certificates = certs.certificate_pem(
        chosen["tls.crt"].contents, _describe_file(chosen["tls.crt"])
    )
    private_key = certs.private_key_pem(
        chosen["tls.key"].contents, _describe_file(chosen["tls.key"])
    )
    certs.check_pair(certificates, private_key)
    return {"tls.crt": certificates, "tls.key": private_key}


def _basic_auth(chosen: _Files) -> dict[str, bytes]:
    if chosen.keys().isdisjoint({"username", "password"}):
        raise SecretDataError(
            f"type kubernetes.io/basic-auth asks for username or password, not {_keys(chosen)}",
            "Add a data entry with key username or password.",
        )
    return _verbatim(chosen)


def _ssh_auth(chosen: _Files) -> dict[str, bytes]:
    file = _required(chosen, "kubernetes.io/ssh-auth", "ssh-privatekey")
    if not file.contents:
        raise SecretDataError(
            f"{_describe_file(file)} is empty, and type kubernetes.io/ssh-auth asks for a "
            "private key",
            "Check the value in the vault.",
        )
    return _verbatim(chosen)


class _DockerConfig(msgspec.Struct):
    auths: dict[str, msgspec.Raw]


def _docker_config_json(chosen: _Files) -> dict[str, bytes]:
    file = _required(chosen, "kubernetes.io/dockerconfigjson", ".dockerconfigjson")
    _check_json(file, _DockerConfig, 'the JSON of ~/.docker/config.json: {"auths": {...}}')
    return _verbatim(chosen)


def _docker_config(chosen: _Files) -> dict[str, bytes]:
    file = _required(chosen, "kubernetes.io/dockercfg", ".dockercfg")
    _check_json(file, dict[str, msgspec.Raw], "the JSON object of ~/.dockercfg")
    return _verbatim(chosen)


def _required(chosen: _Files, secret_type: str, key: str) -> SecretFile:
    if key not in chosen:
        raise SecretDataError(
            f"type {secret_type} asks for the key {key}, not {_keys(chosen)}",
            f"Add a data entry with key {key}.",
        )
    return chosen[key]


def _check_json(file: SecretFile, schema: object, expected: str) -> None:
    try:
        msgspec.json.decode(file.contents, type=schema)
    except (msgspec.DecodeError, UnicodeError):
        # The message of the decoder may quote the value.
        raise SecretDataError(
            f"{_describe_file(file)} is not {expected}", "Check the value in the vault."
        ) from None


def _keys(chosen: _Files) -> str:
    return ", ".join(sorted(chosen))


def _describe_file(file: SecretFile) -> str:
    return f"file {file.path!r}"


_DATA_OF_TYPE: Mapping[str, Callable[[_Files], dict[str, bytes]]] = {
    "kubernetes.io/tls": _tls,
    "kubernetes.io/basic-auth": _basic_auth,
    "kubernetes.io/ssh-auth": _ssh_auth,
    "kubernetes.io/dockerconfigjson": _docker_config_json,
    "kubernetes.io/dockercfg": _docker_config,
}
"""The types that the API server checks and a volume can fill; the files of any other go in as they
are.
"""


# --- Who owns a Secret, so that Kubernetes deletes it with the last of them -----------------------


def owners_of(
    consumers: Iterable[tuple[Pod | None, OwnerReference | None]],
) -> tuple[tuple[OwnerReference, ...], frozenset[str]]:
    """The owners, each once, and the uids of those that stood in for them before.

    Args:
        consumers: of each volume its pod, None while it is not known, and its pod status, None
            while the store does not have it.
    """
    owners: dict[str, OwnerReference] = {}
    stand_ins = set()
    for pod, status in consumers:
        if pod is not None and pod.owners:
            owners |= {owner.uid: owner for owner in pod.owners}
            stand_ins |= {status.uid} if status else set()
        elif status is not None:
            owners[status.uid] = status
    return tuple(owners.values()), frozenset(stand_ins - owners.keys())
