"""Encodes and decodes API requests for the Secret with the HMAC key for object versions. [pure]

Source: docs/reference/upstream-vault-provider.md#hmac-key
"""

from __future__ import annotations

from base64 import b64decode, b64encode

from keyferry.errors import PlatformError, Stage
from keyferry.formats.go_json import NotJsonError, read_json, write_json
from keyferry.kubernetes.rejection import RejectionKind, rejection_of

DATA_KEY = "key"
"""Key in the data of the Secret."""


def parse_key(status: int, body: bytes, secret: str) -> bytes | None:
    """Return the HMAC key from the response to a GET; None if the Secret does not exist.

    Args:
        status: HTTP status.
        body: response body.
        secret: namespace and name of the Secret, for messages.

    Raises:
        PlatformError: reading the Secret is not permitted, or the Secret has no key.
    """
    if status == 404:
        return None
    if status != 200:
        raise _api_error(status, "get", secret, body)
    try:
        document = read_json(body)
    except NotJsonError:
        document = None
    data = document.get("data") if isinstance(document, dict) else None
    text = data.get(DATA_KEY) if isinstance(data, dict) else None
    try:
        key = b64decode(text, validate=True) if isinstance(text, str) else b""
    except ValueError:
        key = b""
    if not key:
        raise PlatformError(
            f"Secret {secret} has no HMAC key for object versions: '{DATA_KEY}' is missing from "
            "its data, empty, or not base64",
            "Delete the Secret; Keyferry creates it again if permitted. Or create it with 32 "
            "random bytes.",
            stage=Stage.STORE,
        )
    return key


def was_created(status: int, body: bytes, secret: str) -> bool:
    """Return whether a POST created the Secret; False if it exists, created by another node.

    Args:
        status: HTTP status.
        body: response body.
        secret: namespace and name of the Secret, for messages.

    Raises:
        PlatformError: creating the Secret is not permitted.
    """
    if status == 409:
        return False
    if not 200 <= status < 300:
        raise _api_error(status, "create", secret, body)
    return True


def secret_manifest(name: str, namespace: str, key: bytes) -> bytes:
    """Return the JSON manifest of the Secret for a POST."""
    return write_json(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": namespace},
            "immutable": True,
            "data": {DATA_KEY: b64encode(key).decode()},
        }
    )


def _api_error(status: int, verb: str, secret: str, body: bytes) -> PlatformError:
    namespace, _, name = secret.partition("/")
    missing = f"Secret {secret} is missing, and" if verb == "create" else f"Secret {secret}:"
    problem = f"{missing} the Kubernetes API rejected the request to {verb} it ({status})"
    rejection = rejection_of(body)
    if rejection is not None and rejection.kind is not RejectionKind.PERMISSION:
        return PlatformError(
            f"{problem}: {rejection.problem}", rejection.remedy(namespace), stage=Stage.STORE
        )
    match status, verb:
        case ((401 | 403), "create"):
            remedy = (
                f"Create it once: head -c 32 /dev/urandom | kubectl create secret generic {name} "
                f"--namespace {namespace} --from-file=key=/dev/stdin; or permit Keyferry to create "
                "Secrets there (chart: versionHmac.create: true)."
            )
        case ((401 | 403), _):
            remedy = (
                "Permit the service account of Keyferry to get this Secret (chart: "
                "versionHmac.enabled: true)."
            )
        case _:
            remedy = "See the log of the Kubernetes API server."
    return PlatformError(problem, remedy, stage=Stage.STORE)
