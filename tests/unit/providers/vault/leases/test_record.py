"""Record: what one process writes the next one reads, and nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from keyferry.formats.go_json import JsonNumber
from keyferry.providers.vault.auth.token import NEVER, VaultToken
from keyferry.providers.vault.http.response import VaultResponse
from keyferry.providers.vault.http.server import Address, Server
from keyferry.providers.vault.http.tls_settings import TlsSettings
from keyferry.providers.vault.leases.lease import Lease, LeaseOrigin, ReadResult
from keyferry.providers.vault.leases.record import UnusableRecordError, decode_record, encode_record
from keyferry.providers.vault_settings import TlsLayer
from keyferry.resilience.cache_key import CacheKey, IdentityKey

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
    """One of a user that was made 40 s ago for 60 s."""
    answer = VaultResponse(
        lease_id="database/creds/app/x",
        lease_duration=JsonNumber("60"),
        renewable=True,
        data={"username": "u", "big": JsonNumber("1e400"), "nested": {"a": [None, True]}},
    )
    grant = VaultToken("hvs.token", 3600, NOW - 50, renewable=True, from_kubernetes_auth=True)
    origin = LeaseOrigin(SERVER, "kubernetes", "jwt", token_revocable=True)
    issued = ReadResult(answer, grant, origin, session=None, session_shared=False)
    given: dict[str, Any] = {"ttl": 60.0, "lease_expires_at": NOW + 20, "volumes": {"/a", "/b"}}
    return Lease(KEY, issued, renewable=True, **{**given, **fields})


def round_trip(lease: Lease, *, now: float = NOW, boot_id: str = "b1") -> Lease:
    """What the next process makes of it."""
    return decode_record(encode_record(lease, boot_id="b1"), boot_id=boot_id, now=now)


def test_everything_that_renewing_and_delivering_takes_comes_back() -> None:
    """Numbers as they are written, certificates, headers, times."""
    lease, found = make_lease(), round_trip(make_lease())
    assert (KEY, 60.0, NOW + 20, True, {"/a", "/b"}) == (
        found.key, found.ttl, found.lease_expires_at, found.renewable, found.volumes,
    )  # fmt: skip
    assert lease.result.origin == found.result.origin
    assert lease.result.response == found.result.response
    grant = found.result.token
    assert ("hvs.token", 3600, NOW - 50, True, True) == (
        grant.value, grant.ttl, grant.issued_at, grant.renewable, grant.from_kubernetes_auth,
    )  # fmt: skip
    assert lease.renew_at == found.renew_at


def test_a_certificate_is_kept_without_a_token() -> None:
    """It hangs on none, so none is to lie about."""
    lease = make_lease()
    answer = VaultResponse(data={"certificate": "PEM", "private_key": "KEY"})
    lease.result = replace(lease.result, response=answer)
    body = encode_record(lease, boot_id="b1")
    assert b"hvs.token" not in body
    assert NEVER == decode_record(body, boot_id="b1", now=NOW).result.token.expires_at


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"format": 2}, "another format"),
        ({"boot": "b0"}, "earlier start"),
        ({"token_since": NOW + 1}, "times"),
        ({"expires": NOW + 61}, "times"),
        ({"answer": "{}"}, "content"),
        ({"answer": "x"}, "damaged"),
        ({"life": "x"}, "damaged"),
        ({"volumes": None}, "damaged"),
        ({"server": {}}, "damaged"),
    ],
)
def test_what_cannot_be_used_is_refused(change: dict[str, Any], why: str) -> None:
    """With a reason that quotes nothing."""
    record = {**json.loads(encode_record(make_lease(), boot_id="b1")), **change}
    with pytest.raises(UnusableRecordError, match=why) as caught:
        decode_record(json.dumps(record).encode(), boot_id="b1", now=NOW)
    assert "hvs" not in str(caught.value)


@pytest.mark.parametrize("cut", [0, 1, 50, -1])
def test_half_a_record_is_refused(cut: int) -> None:
    """Whatever is left of it."""
    with pytest.raises(UnusableRecordError):
        decode_record(encode_record(make_lease(), boot_id="b1")[:cut], boot_id="b1", now=NOW)
