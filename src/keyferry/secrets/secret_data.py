"""The data of a Kubernetes Secret: what its type requires of the files. [pure]

The function runs in a parser process, because the files are those of a tenant.

Source: docs/reference/upstream-driver.md#secret-validation
Source: docs/reference/upstream-driver.md#tls-secrets
"""

from __future__ import annotations

import base64
import binascii
import codecs
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import assert_never

import msgspec

from keyferry.errors import SecretDataError
from keyferry.formats import certs


class FilePart(Enum):
    """What of a file with a certificate and its key is meant."""

    WHOLE = ""
    CERTIFICATE = "tls.crt"
    KEY = "tls.key"


@dataclass(frozen=True, slots=True)
class KeyedFile:
    """A file of the volume, and its key in the Secret.

    Attributes:
        key: the key of the Secret.
        path: the path in the volume, for messages.
        contents: the content.
        part: what of it becomes the value.
    """

    key: str
    path: str
    contents: bytes = field(repr=False)
    part: FilePart = FilePart.WHOLE


@dataclass(frozen=True, slots=True)
class SecretDataRequest:
    """The files of one Secret.

    Attributes:
        type: the type of the Secret.
        files: its files, with different keys.
    """

    type: str
    files: tuple[KeyedFile, ...]

    @property
    def is_parsed(self) -> bool:
        """Whether the type or a part requires a format; else the files are copied as they are."""
        parts = any(file.part is not FilePart.WHOLE for file in self.files)
        return parts or self.type in _DATA_OF_TYPE or self.type == _BASIC_AUTH

    def verbatim(self) -> dict[str, bytes]:
        """Return the files as they are."""
        return {file.key: file.contents for file in self.files}


def secret_data(request: SecretDataRequest) -> dict[str, bytes]:
    """Return the data of a Secret whose type requires a format.

    Raises:
        SecretDataError: the files do not fit the type.
    """
    chosen = {file.key: _only_part(file) for file in request.files}
    check_keys(request.type, chosen)
    return _DATA_OF_TYPE.get(request.type, _verbatim)(chosen)


def check_keys(secret_type: str, keys: Collection[str]) -> None:
    """Check that the keys of a Secret are enough for its type.

    Raises:
        SecretDataError: a key is missing.
    """
    listed = ", ".join(sorted(keys))
    missing = [key for key in _REQUIRED_KEYS.get(secret_type, ()) if key not in keys]
    if secret_type == "kubernetes.io/tls" and missing:  # noqa: S105 - a type
        raise SecretDataError(
            f"type kubernetes.io/tls requires the keys tls.crt and tls.key, not {listed}",
            f"Add a data entry with key {missing[0]}; tls.crt and tls.key may name one object that "
            "has the certificate and its key.",
        )
    if missing:
        raise SecretDataError(
            f"type {secret_type} requires the key {missing[0]}, not {listed}",
            f"Add a data entry with key {missing[0]}.",
        )
    if secret_type == _BASIC_AUTH and not {"username", "password"} & {*keys}:
        raise SecretDataError(
            f"type {secret_type} requires username or password, not {listed}",
            "Add a data entry with key username or password.",
        )


_BASIC_AUTH = "kubernetes.io/basic-auth"
_REQUIRED_KEYS: Mapping[str, tuple[str, ...]] = {
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/dockercfg": (".dockercfg",),
}


def _only_part(file: KeyedFile) -> KeyedFile:
    match file.part:
        case FilePart.WHOLE:
            return file
        case FilePart.CERTIFICATE:
            contents = certs.certificate_pem(file.contents, _describe_file(file))
        case FilePart.KEY:
            contents = certs.private_key_pem(file.contents, _describe_file(file))
        case _:
            assert_never(file.part)
    return replace(file, contents=contents)


_Files = Mapping[str, KeyedFile]
"""The files by key of the Secret."""


def _verbatim(chosen: _Files) -> dict[str, bytes]:
    return {key: file.contents for key, file in chosen.items()}


def _tls(chosen: _Files) -> dict[str, bytes]:
    """Return certificates, leaf first, and key. As in Kubernetes, further keys are permitted."""
    certificates = certs.certificate_pem(
        chosen["tls.crt"].contents, _describe_file(chosen["tls.crt"])
    )
    private_key = certs.private_key_pem(
        chosen["tls.key"].contents, _describe_file(chosen["tls.key"])
    )
    chain = certs.chain_of_key(certificates, private_key)
    others = {key: _tls_extra(file) for key, file in chosen.items()}
    return {**others, "tls.crt": chain, "tls.key": private_key}


def _tls_extra(file: KeyedFile) -> bytes:
    """Return a further value: of ca.crt only the certificates, never a key beside them."""
    if file.key != "ca.crt":
        return file.contents
    return certs.certificate_pem(file.contents, _describe_file(file))


def _ssh_auth(chosen: _Files) -> dict[str, bytes]:
    file = chosen["ssh-privatekey"]
    if not file.contents:
        raise SecretDataError(
            f"{_describe_file(file)} is empty; type kubernetes.io/ssh-auth requires a private key",
            "Check the value in the vault.",
        )
    return _verbatim(chosen)


class _DockerConfig(msgspec.Struct):
    auths: dict[str, msgspec.Raw]


class _RegistryLogin(msgspec.Struct):
    """An entry of ~/.dockercfg, which has no key `auths`."""

    auth: str


def _docker_config_json(chosen: _Files) -> dict[str, bytes]:
    file = chosen[".dockerconfigjson"]
    _check_json(file, _DockerConfig, 'the JSON of ~/.docker/config.json: {"auths": {...}}')
    return _verbatim(chosen)


def _docker_config(chosen: _Files) -> dict[str, bytes]:
    file = chosen[".dockercfg"]
    _check_json(file, dict[str, msgspec.Raw], "the JSON object of ~/.dockercfg")
    return _verbatim(chosen)


def _check_json(file: KeyedFile, schema: object, expected: str) -> None:
    if _is_json(file.contents, schema):
        return
    note, remedy = _json_mistake(file.contents, schema)
    raise SecretDataError(f"{_describe_file(file)} is not {expected}{note}", remedy)


def _is_json(contents: bytes, schema: object) -> bool:
    # The decoder may quote the value in its message, so its error is dropped.
    try:
        msgspec.json.decode(contents, type=schema)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return False
    return True


_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def _json_mistake(contents: bytes, schema: object) -> tuple[str, str]:
    """Return what the contents are instead, as the end of a sentence, and the remedy."""
    decoded = _decoded_base64(contents)
    is_legacy = schema is _DockerConfig and _is_json(contents, dict[str, _RegistryLogin])
    from_file = "Store the whole file, for example with az keyvault secret set --file."
    mistakes = (
        (not contents.strip(), "it is empty", "Store the JSON in the vault."),
        (
            decoded is not None and _is_json(decoded, schema),
            "it is the base64 text of that",
            "Set objectEncoding: base64 for the object (Vault: encoding: base64), or store JSON.",
        ),
        (
            contents.startswith(codecs.BOM_UTF8),
            "it begins with a byte order mark",
            "Store it as UTF-8 without that mark.",
        ),
        (contents.startswith(_UTF16_MARKS), "it is UTF-16 text", "Store it as UTF-8."),
        (
            _is_json(contents, str),
            "it is a JSON string",
            "Store the JSON itself, without quotes and escapes.",
        ),
        (
            is_legacy,
            "it has the format of ~/.dockercfg",
            'Write {"auths": VALUE}, or use type kubernetes.io/dockercfg with key .dockercfg.',
        ),
        (
            _is_json(contents, dict[str, msgspec.Raw]),
            "it is JSON without the key auths",
            "Store the file ~/.docker/config.json.",
        ),
        (_is_json(contents, msgspec.Raw), "it is JSON, but not an object", from_file),
        (True, "it is not JSON", from_file),
    )
    return next((f": {note}", remedy) for applies, note, remedy in mistakes if applies)


def _decoded_base64(contents: bytes) -> bytes | None:
    try:
        return base64.b64decode(b"".join(contents.split()), validate=True)
    except binascii.Error:
        return None


def _describe_file(file: KeyedFile) -> str:
    return f"file {file.path!r}"


_DATA_OF_TYPE: Mapping[str, Callable[[_Files], dict[str, bytes]]] = {
    "kubernetes.io/tls": _tls,
    "kubernetes.io/ssh-auth": _ssh_auth,
    "kubernetes.io/dockerconfigjson": _docker_config_json,
    "kubernetes.io/dockercfg": _docker_config,
}
"""The types whose data the API server checks; for other types, the files are copied verbatim."""
