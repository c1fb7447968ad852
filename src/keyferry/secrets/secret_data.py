"""The data of a Kubernetes Secret: what its type requires of the files. [pure]

The function runs in a parser process, because the files are those of a tenant.

Source: docs/reference/upstream-driver.md#secret-validation
Source: docs/reference/upstream-driver.md#tls-secrets
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, assert_never

from msgspec import Struct

from keyferry.errors import SecretDataError
from keyferry.records import replace

if TYPE_CHECKING:
    from keyferry.secrets.pull_secrets import PullSecretMistake


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


class SecretDataRequest(Struct, frozen=True):
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


# What parses values is imported on use: most Secrets, and `keyferry lint`, need none of it.


def _only_part(file: KeyedFile) -> KeyedFile:
    from keyferry.formats.certs import tls as certs

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
    from keyferry.formats.certs import tls as certs

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
    from keyferry.formats.certs import tls as certs

    return certs.certificate_pem(file.contents, _describe_file(file))


def _ssh_auth(chosen: _Files) -> dict[str, bytes]:
    file = chosen["ssh-privatekey"]
    if not file.contents:
        raise SecretDataError(
            f"{_describe_file(file)} is empty; type kubernetes.io/ssh-auth requires a private key",
            "Check the value in the vault.",
        )
    return _verbatim(chosen)


def _docker_config_json(chosen: _Files) -> dict[str, bytes]:
    from keyferry.secrets.pull_secrets import docker_config_json_mistake

    return _pull_secret(chosen, ".dockerconfigjson", docker_config_json_mistake)


def _docker_config(chosen: _Files) -> dict[str, bytes]:
    from keyferry.secrets.pull_secrets import docker_config_mistake

    return _pull_secret(chosen, ".dockercfg", docker_config_mistake)


def _pull_secret(
    chosen: _Files, key: str, find_mistake: Callable[[bytes], PullSecretMistake | None]
) -> dict[str, bytes]:
    if mistake := find_mistake(chosen[key].contents):
        problem = f"{_describe_file(chosen[key])} is not {mistake.problem}"
        raise SecretDataError(problem, mistake.remedy)
    return _verbatim(chosen)


def _describe_file(file: KeyedFile) -> str:
    return f"file {file.path!r}"


_DATA_OF_TYPE: Mapping[str, Callable[[_Files], dict[str, bytes]]] = {
    "kubernetes.io/tls": _tls,
    "kubernetes.io/ssh-auth": _ssh_auth,
    "kubernetes.io/dockerconfigjson": _docker_config_json,
    "kubernetes.io/dockercfg": _docker_config,
}
"""The types whose data the API server checks; for other types, the files are copied verbatim."""
