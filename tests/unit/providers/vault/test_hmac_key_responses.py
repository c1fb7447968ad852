"""keyferry.providers.vault.hmac_key_responses."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import pytest

from keyferry.errors import PlatformError
from keyferry.providers.vault.hmac_key_responses import parse_key, secret_manifest, was_created

SECRET = "kube-system/vault-csi-provider-hmac-key"
KEY = b"a" * 32


def secret(**data: Any) -> bytes:
    return json.dumps({"kind": "Secret", "data": data}).encode()


def test_key_of_any_length_is_read() -> None:
    """Like upstream, which rejects only an empty key."""
    for key in (KEY, b"k", bytes(range(256))):
        assert key == parse_key(200, secret(key=b64encode(key).decode()), SECRET)


def test_missing_secret_is_not_an_error() -> None:
    assert parse_key(404, b'{"reason": "NotFound"}', SECRET) is None


@pytest.mark.parametrize(
    "body",
    [
        secret(),
        secret(key=""),
        secret(key="!canary!"),
        secret(key=1),
        secret(key=None),
        secret(other="Y2FuYXJ5"),
        b'{"data": null}',
        b'{"data": ["canary"]}',
        b"[]",
        b"canary",
    ],
)
def test_secret_without_key_is_an_error_that_names_it(body: bytes) -> None:
    """The error quotes none of its content."""
    with pytest.raises(PlatformError, match=f"Secret {SECRET} has no HMAC key") as caught:
        parse_key(200, body, SECRET)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "said"),
    [(403, "versionHmac.enabled"), (401, "versionHmac.enabled"), (500, "log of the Kubernetes")],
)
def test_denied_get_names_the_missing_permission(status: int, said: str) -> None:
    with pytest.raises(PlatformError, match=rf"Secret {SECRET}: .* get it \({status}\)") as caught:
        parse_key(status, b"", SECRET)
    assert said in caught.value.remedy


def test_denied_create_explains_how_to_create_the_secret() -> None:
    """Either by hand or with a permission. If another node created it first, it is not an error."""
    assert was_created(201, b"", SECRET)
    assert not was_created(409, b"", SECRET)
    with pytest.raises(PlatformError, match=f"Secret {SECRET} is missing") as caught:
        was_created(403, b"", SECRET)
    assert (
        "kubectl create secret generic vault-csi-provider-hmac-key --namespace kube-system"
        in caught.value.remedy
    )
    assert "versionHmac.create" in caught.value.remedy


def test_manifest_equals_that_of_upstream() -> None:
    """Immutable, without labels, 32 bytes under `key`."""
    assert json.loads(secret_manifest("n", "ns", KEY)) == {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "n", "namespace": "ns"},
        "immutable": True,
        "data": {"key": b64encode(KEY).decode()},
    }
