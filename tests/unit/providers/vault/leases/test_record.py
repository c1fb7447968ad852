"""Lease records: a restarted process reads what its predecessor wrote, and rejects the rest."""

from __future__ import annotations

import json
from typing import Any

import pytest

from keyferry.formats.go_json import JsonNumber
from keyferry.providers.settings import TlsLayer
from keyferry.providers.vault.auth.token import NEVER, VaultToken
from keyferry.providers.vault.http.response import VaultResponse
from keyferry.providers.vault.http.server import Address, Server, TlsSettings
from keyferry.providers.vault.leases.lease import Lease, LeaseOrigin, ReadResult
from keyferry.providers.vault.leases.record import UnusableRecordError, decode_record, encode_record
from keyferry.records import replace
from keyferry.resilience.cache_key import CacheKey, IdentityKey
from keyferry.resilience.call_context import Caller

KEY = CacheKey(
    "v:8200",
    IdentityKey("jwt", ("https://v:8200", "", "team", "sub")),
    ("GET", "database/creds/app", ""),
)
SERVER = Server(
    Address("https://v:8200"),
    "team",
    TlsSettings(cas=(TlsLayer(ca_pem="PEM"),), client_pem=b"\x00key", skip_verify=True),
    headers=(("X-A", "b"),),
)
NOW = 1000.0


def make_lease(**fields: Any) -> Lease:
    """Return the lease of a database user that was created 40 s ago for 60 s."""
    response = VaultResponse(
        lease_id="database/creds/app/x",
        lease_duration=JsonNumber("60"),
        renewable=True,
        data={"username": "u", "big": JsonNumber("1e400"), "nested": {"a": [None, True]}},
    )
    token = VaultToken("hvs.token", 3600, NOW - 50, renewable=True, from_kubernetes_auth=True)
    origin = LeaseOrigin(
        SERVER, "kubernetes", "jwt", token_revocable=True, caller=Caller("shop", "web")
    )
    result = ReadResult(response, token, origin, session=None, session_shared=False)
    defaults: dict[str, Any] = {"ttl": 60.0, "lease_expires_at": NOW + 20, "volumes": {"/a", "/b"}}
    return Lease(KEY, result, renewable=True, **{**defaults, **fields})


def round_trip(lease: Lease, *, now: float = NOW, boot_id: str = "b1") -> Lease:
    """Encode `lease` and decode it as the next process would."""
    return decode_record(encode_record(lease, boot_id="b1"), boot_id=boot_id, now=now)


def test_record_restores_everything_that_delivery_and_renewal_need() -> None:
    """Includes numbers as written, certificates, headers and times."""
    lease, restored = make_lease(), round_trip(make_lease())
    assert (KEY, 60.0, NOW + 20, True, {"/a", "/b"}) == (
        restored.key,
        restored.ttl,
        restored.lease_expires_at,
        restored.renewable,
        restored.volumes,
    )
    assert lease.result.origin == restored.result.origin
    assert lease.result.response == restored.result.response
    token = restored.result.token
    assert ("hvs.token", 3600, NOW - 50, True, True) == (
        token.value, token.ttl, token.issued_at, token.renewable, token.from_kubernetes_auth,
    )  # fmt: skip
    assert lease.renew_at == restored.renew_at


def test_record_of_a_certificate_contains_no_token() -> None:
    """A certificate does not depend on the token, so the token is not written to the file."""
    lease = make_lease()
    response = VaultResponse(data={"certificate": "PEM", "private_key": "KEY"})
    lease.result = replace(lease.result, response=response)
    body = encode_record(lease, boot_id="b1")
    assert b"hvs.token" not in body
    assert NEVER == decode_record(body, boot_id="b1", now=NOW).result.token.expires_at


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"format": 1}, "another format"),
        ({"boot_id": "b0"}, "machine was restarted"),
        ({"token_issued_at": NOW + 1}, "times"),
        ({"expires_at": NOW + 61}, "times"),
        ({"response": "{}"}, "content"),
        ({"response": "x"}, "damaged"),
        ({"ttl": "x"}, "damaged"),
        ({"volumes": None}, "damaged"),
        ({"server": {}}, "damaged"),
    ],
)
def test_unusable_record_is_rejected(change: dict[str, Any], why: str) -> None:
    """The error gives the reason and quotes no content."""
    record = {**json.loads(encode_record(make_lease(), boot_id="b1")), **change}
    with pytest.raises(UnusableRecordError, match=why) as caught:
        decode_record(json.dumps(record).encode(), boot_id="b1", now=NOW)
    assert "hvs" not in str(caught.value)


@pytest.mark.parametrize("length", [0, 1, 50, -1])
def test_truncated_record_is_rejected(length: int) -> None:
    with pytest.raises(UnusableRecordError):
        decode_record(encode_record(make_lease(), boot_id="b1")[:length], boot_id="b1", now=NOW)
