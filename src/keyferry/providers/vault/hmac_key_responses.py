"""What the Kubernetes API says about the Secret that holds the key of versions. [pure]

Source: docs/reference/upstream-vault-provider.md#hmac-key
"""

from __future__ import annotations

from base64 import b64decode, b64encode

from keyferry.errors import PlatformError, Stage
from keyferry.formats.go_json import NotJsonError, read_json, write_json

DATA_KEY = "key"
"""Of the data of the Secret."""


def parse_key(status: int, body: bytes, secret: str) -> bytes | None:
    """The key in the answer to a GET; None where there is no such Secret.

    Args:
        status: of HTTP.
        body: of a success it holds the key.
        secret: its namespace and name, for messages.

    Raises:
        PlatformError: there is no right to it, or it holds no key.
    """
    if status == 404:
        return None
    if status != 200:
        raise _api_error(status, "get", secret)
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
            f"Secret {secret} holds no key of versions: its data have no '{DATA_KEY}', or "
            "an empty one",
            "Delete it, and Keyferry makes it anew where it may; or make it with 32 random bytes.",
            stage=Stage.STORE,
        )
    return key


def was_created(status: int, secret: str) -> bool:
    """Whether a POST made the Secret; not so if another node came first.

    Raises:
        PlatformError: there is no right to make it.
    """
    if status == 409:
        return False
    if not 200 <= status < 300:
        raise _api_error(status, "create", secret)
    return True


def secret_manifest(name: str, namespace: str, key: bytes) -> bytes:
    """What a POST sends."""
    return write_json(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": namespace},
            "immutable": True,
            "data": {DATA_KEY: b64encode(key).decode()},
        }
    )


def _api_error(status: int, verb: str, secret: str) -> PlatformError:
    namespace, _, name = secret.partition("/")
    match status, verb:
        case ((401 | 403), "create"):
            remedy = (
                f"Make it once: head -c 32 /dev/urandom | kubectl create secret generic {name} "
                f"--namespace {namespace} --from-file=key=/dev/stdin; or give the right to create "
                "Secrets there (of the chart: versionHmac.create: true)."
            )
        case ((401 | 403), _):
            remedy = (
                "Give the service account of Keyferry the right to get this Secret (of the chart: "
                "versionHmac.enabled: true)."
            )
        case _:
            remedy = "Look at the log of the Kubernetes API."
    problem = f"there is no Secret {secret}, and" if verb == "create" else f"Secret {secret}:"
    return PlatformError(
        f"{problem} the Kubernetes API refuses to {verb} it ({status})", remedy, stage=Stage.STORE
    )
