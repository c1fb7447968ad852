"""Checks the logins of registries in pull secrets, and says what is there instead. [pure]"""

from __future__ import annotations

import base64
import binascii
import codecs
from typing import NamedTuple

import msgspec


class PullSecretMistake(NamedTuple):
    """What is wrong with the login of a container registry.

    Attributes:
        problem: completes the sentence "the file is not ..."; it quotes nothing of the value.
        remedy: what to do about it.
    """

    problem: str
    remedy: str


class _DockerConfig(msgspec.Struct):
    auths: dict[str, msgspec.Raw]


class _RegistryLogin(msgspec.Struct):
    """An entry of ~/.dockercfg, which has no key `auths`."""

    auth: str


def docker_config_json_mistake(contents: bytes) -> PullSecretMistake | None:
    """Return what is wrong with the value of the key `.dockerconfigjson`; None if it is right."""
    return _mistake(contents, _DockerConfig, 'the JSON of ~/.docker/config.json: {"auths": {...}}')


def docker_config_mistake(contents: bytes) -> PullSecretMistake | None:
    """Return what is wrong with the value of the key `.dockercfg`; None if it is right."""
    return _mistake(contents, dict[str, msgspec.Raw], "the JSON object of ~/.dockercfg")


def _mistake(contents: bytes, schema: object, expected: str) -> PullSecretMistake | None:
    if _is_json(contents, schema):
        return None
    note, remedy = _json_mistake(contents, schema)
    return PullSecretMistake(f"{expected}{note}", remedy)


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
