"""What kubelet would hand over with a pod, read from files: credentials and tokens.

Never from arguments or the environment, which every process of the machine can read.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

import msgspec

from keyferry.errors import RequestInvalidError
from keyferry.formats.kubernetes_yaml import KubernetesYamlError, parse_documents

if TYPE_CHECKING:
    from pathlib import Path

_MAX_BYTES = 1 << 20


def read_credentials(path: Path) -> dict[str, str]:
    """The data of the Kubernetes Secret in the YAML file `path`, decoded.

    Raises:
        RequestInvalidError: it cannot be read, or is not one Secret with text in it.
    """
    try:
        documents = parse_documents(_read(path), max_bytes=_MAX_BYTES)
    except KubernetesYamlError as error:
        raise _credentials_error(path, str(error)) from None  # its cause could quote a value
    manifests = [document.value for document in documents if document.value is not None]
    secret = manifests[0] if len(manifests) == 1 else None
    if not isinstance(secret, dict) or secret.get("kind") != "Secret":
        raise _credentials_error(path, "it is not one Secret manifest")
    data, plain = secret.get("data") or {}, secret.get("stringData") or {}
    if not isinstance(data, dict) or not isinstance(plain, dict):
        raise _credentials_error(path, "data or stringData is not a mapping")
    texts = {str(key): _decode_value(path, str(key), value) for key, value in data.items()}
    for key, value in plain.items():
        if not isinstance(value, str):
            raise _credentials_error(path, f"stringData.{key} is not a text; put it in quotes")
        texts[str(key)] = value
    return texts


def read_tokens(path: Path) -> str:
    """Kubelet's JSON of tokens in the file `path`: audience -> {token, expirationTimestamp}.

    Raises:
        RequestInvalidError: it cannot be read, or is not such JSON.
    """
    text = _read(path)
    try:
        msgspec.json.decode(text, type=dict[str, dict[str, str]])
        return text.decode()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise RequestInvalidError(
            f"{path} is not kubelet's JSON of service-account tokens",
            "It maps audiences to {token, expirationTimestamp}; see `keyferry devvault token`.",
        ) from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RequestInvalidError(f"{path} cannot be read: {error.strerror}") from error


def _decode_value(path: Path, key: str, value: object) -> str:
    try:
        return base64.b64decode(str(value), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise _credentials_error(path, f"data.{key} is not base64 of a text") from None


def _credentials_error(path: Path, problem: str) -> RequestInvalidError:
    return RequestInvalidError(
        f"the credentials in {path} cannot be used: {problem}",
        "Give a Kubernetes Secret: kind: Secret, stringData: {clientid: ..., clientsecret: ...}.",
    )
