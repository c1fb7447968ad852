"""The data of a Kubernetes Secret: what its type requires of the files. [pure]

The function runs in a parser process, because the files are those of a tenant.

Source: docs/reference/upstream-driver.md#secret-validation
Source: docs/reference/upstream-driver.md#tls-secrets
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import msgspec

from keyferry.errors import SecretDataError
from keyferry.formats import certs


@dataclass(frozen=True, slots=True)
class KeyedFile:
    """A file of the volume, and its key in the Secret.

    Attributes:
        key: the key of the Secret.
        path: the path in the volume, for messages.
        contents: the content.
    """

    key: str
    path: str
    contents: bytes = field(repr=False)


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
        """Whether the type requires a format; otherwise the files are copied as they are."""
        return self.type in _DATA_OF_TYPE

    def verbatim(self) -> dict[str, bytes]:
        """Return the files as they are."""
        return {file.key: file.contents for file in self.files}


def secret_data(request: SecretDataRequest) -> dict[str, bytes]:
    """Return the data of a Secret whose type requires a format.

    Raises:
        SecretDataError: the files do not fit the type.
    """
    chosen = {file.key: file for file in request.files}
    return _DATA_OF_TYPE.get(request.type, _verbatim)(chosen)


_Files = Mapping[str, KeyedFile]
"""The files by key of the Secret."""


def _verbatim(chosen: _Files) -> dict[str, bytes]:
    return {key: file.contents for key, file in chosen.items()}


def _tls(chosen: _Files) -> dict[str, bytes]:
    if chosen.keys() != {"tls.crt", "tls.key"}:
        raise SecretDataError(
            f"type kubernetes.io/tls requires the keys tls.crt and tls.key, not {_keys(chosen)}",
            "Set both; they may name the same object with the certificate and its key.",
        )
    certificates = certs.certificate_pem(
        chosen["tls.crt"].contents, _describe_file(chosen["tls.crt"])
    )
    private_key = certs.private_key_pem(
        chosen["tls.key"].contents, _describe_file(chosen["tls.key"])
    )
    chain = certs.chain_of_key(certificates, private_key)
    return {"tls.crt": chain, "tls.key": private_key}


def _basic_auth(chosen: _Files) -> dict[str, bytes]:
    if chosen.keys().isdisjoint({"username", "password"}):
        raise SecretDataError(
            f"type kubernetes.io/basic-auth requires username or password, not {_keys(chosen)}",
            "Add a data entry with key username or password.",
        )
    return _verbatim(chosen)


def _ssh_auth(chosen: _Files) -> dict[str, bytes]:
    file = _required(chosen, "kubernetes.io/ssh-auth", "ssh-privatekey")
    if not file.contents:
        raise SecretDataError(
            f"{_describe_file(file)} is empty; type kubernetes.io/ssh-auth requires a private key",
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


def _required(chosen: _Files, secret_type: str, key: str) -> KeyedFile:
    if key not in chosen:
        raise SecretDataError(
            f"type {secret_type} requires the key {key}, not {_keys(chosen)}",
            f"Add a data entry with key {key}.",
        )
    return chosen[key]


def _check_json(file: KeyedFile, schema: object, expected: str) -> None:
    try:
        msgspec.json.decode(file.contents, type=schema)
    except (msgspec.DecodeError, UnicodeError):
        # The decoder may quote the value in its message.
        raise SecretDataError(
            f"{_describe_file(file)} is not {expected}", "Check the value in the vault."
        ) from None


def _keys(chosen: _Files) -> str:
    return ", ".join(sorted(chosen))


def _describe_file(file: KeyedFile) -> str:
    return f"file {file.path!r}"


_DATA_OF_TYPE: Mapping[str, Callable[[_Files], dict[str, bytes]]] = {
    "kubernetes.io/tls": _tls,
    "kubernetes.io/basic-auth": _basic_auth,
    "kubernetes.io/ssh-auth": _ssh_auth,
    "kubernetes.io/dockerconfigjson": _docker_config_json,
    "kubernetes.io/dockercfg": _docker_config,
}
"""The types whose data the API server checks; for other types, the files are copied verbatim."""
