"""Credentials and tokens for `keyferry mount`, which kubelet sends with a pod on a cluster.

They are read from files, because other processes can read arguments and environments.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

import msgspec

from keyferry.errors import RequestInvalidError, excerpt
from keyferry.formats.kubernetes_yaml import KubernetesYamlError, parse_documents
from keyferry.formats.unknown_fields import FieldTable

if TYPE_CHECKING:
    from pathlib import Path

    from keyferry.cli.local.unknown_fields import UnknownFieldWarnings

_MAX_BYTES = 1 << 20
_SECRET = FieldTable(
    ("apiVersion", "kind", "metadata", "type", "data", "stringData", "immutable"),
    notes=dict.fromkeys(
        ("clientid", "clientsecret", "role_id", "secret_id", "token"),
        "it is a key of the Secret; indent it below stringData",
    ),
)
_TOKEN = FieldTable(("token", "expirationTimestamp"))


def read_credentials(path: Path, warnings: UnknownFieldWarnings) -> dict[str, str]:
    """Return the decoded data of the Kubernetes Secret in the YAML file `path`.

    Args:
        path: the file.
        warnings: prints the fields that have no effect.

    Raises:
        RequestInvalidError: the file cannot be read, or is not one Secret with text values.
    """
    try:
        documents = parse_documents(_read(path), max_bytes=_MAX_BYTES)
    except KubernetesYamlError as error:
        raise _credentials_error(path, str(error)) from None  # its cause could quote a value
    manifests = [document.value for document in documents if document.value is not None]
    secret = manifests[0] if len(manifests) == 1 else None
    if not isinstance(secret, dict) or secret.get("kind") != "Secret":
        raise _credentials_error(path, "it must contain exactly one Secret manifest")
    warnings.print(_SECRET.find("", secret), source=str(path))
    data, plain = secret.get("data") or {}, secret.get("stringData") or {}
    if not isinstance(data, dict) or not isinstance(plain, dict):
        raise _credentials_error(path, "data or stringData is not a mapping")
    texts = {str(key): _decode_value(path, str(key), value) for key, value in data.items()}
    for key, value in plain.items():
        if not isinstance(value, str):
            raise _credentials_error(
                path, f"stringData.{key} is not a string; put the value in quotes"
            )
        texts[str(key)] = value
    return texts


def read_tokens(path: Path, warnings: UnknownFieldWarnings) -> str:
    """Return the JSON of service account tokens in the file `path`.

    Its format is that of kubelet: audience -> {token, expirationTimestamp}.

    Args:
        path: the file.
        warnings: prints the fields that have no effect.

    Raises:
        RequestInvalidError: the file cannot be read, or has another format.
    """
    text = _read(path)
    try:
        audiences = msgspec.json.decode(text, type=dict[str, dict[str, str]])
        decoded = text.decode()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise RequestInvalidError(
            f"{path} is not a valid JSON file of service account tokens",
            "It must map audiences to {token, expirationTimestamp}; see `keyferry devvault token`.",
        ) from None

    for audience, fields in audiences.items():
        warnings.print(_TOKEN.find(excerpt(audience), fields), source=str(path))
    return decoded


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RequestInvalidError(
            f"{path} cannot be read: {error.strerror}", "Name a file that you may read."
        ) from error


def _decode_value(path: Path, key: str, value: object) -> str:
    try:
        return base64.b64decode(str(value), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise _credentials_error(path, f"data.{key} is not base64-encoded text") from None


def _credentials_error(path: Path, problem: str) -> RequestInvalidError:
    return RequestInvalidError(
        f"the credentials in {path} cannot be used: {problem}",
        "Write a Kubernetes Secret: kind: Secret, stringData: {clientid: ..., clientsecret: ...}.",
    )
