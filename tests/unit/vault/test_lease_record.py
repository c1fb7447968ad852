"""keyferry.vault.lease_record: what one process writes the next one reads, and nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from keyferry.economy.key import FetchKey, WholeIdentity
from keyferry.go_json import JsonNumber
from keyferry.vault.answer import Answer
from keyferry.vault.grant import NEVER, Grant
from keyferry.vault.lease import Issued, Lease, Origin
from keyferry.vault.lease_record import BadRecordError, read_record, write_record
from keyferry.vault.server import Address, Server
from keyferry.vault.tls_settings import TlsSettings
from keyferry.vault_settings import TlsLayer

KEY = FetchKey(
    "v:8200",
    WholeIdentity("jwt", ("https://v:8200", "", "team", "sub")),
    ("GET", "database/creds/app", ""),
)
SERVER = Server(
    Address("https://v:8200"),
    "team",
    TlsSettings(cas=(TlsLayer(ca_pem="PEM"),), client_pem=b"\x00key", skip_verify=True),
    headers=(("X-A", "b"),),
)
NOW = 1000.0


def a_lease(**fields: Any) -> Lease:
    """One of a user that was made 40 s ago for 60 s."""
    answer = Answer(
        lease_id="database/creds/app/x",
        lease_duration=JsonNumber("60"),
        renewable=True,
        data={"username": "u", "big": JsonNumber("1e400"), "nested": {"a": [None, True]}},
    )
    grant = Grant("hvs.token", 3600, NOW - 50, renewable=True, kubernetes=True)
    origin = Origin(SERVER, "kubernetes", "jwt", own_token=True)
    issued = Issued(answer, grant, origin, session=None, shared=False)
    given: dict[str, Any] = {"life": 60.0, "expires": NOW + 20, "volumes": {"/a", "/b"}}
    return Lease(KEY, issued, renewable=True, **{**given, **fields})


def again(lease: Lease, *, now: float = NOW, boot: str = "b1") -> Lease:
    """What the next process makes of it."""
    return read_record(write_record(lease, boot="b1"), boot=boot, now=now)


def test_everything_that_renewing_and_delivering_takes_comes_back() -> None:
    """Numbers as they are written, certificates, headers, times."""
    lease, found = a_lease(), again(a_lease())
    assert (KEY, 60.0, NOW + 20, True, {"/a", "/b"}) == (
        found.key, found.life, found.expires, found.renewable, found.volumes,
    )  # fmt: skip
    assert lease.issued.origin == found.issued.origin
    assert lease.issued.answer == found.issued.answer
    grant = found.issued.grant
    assert ("hvs.token", 3600, NOW - 50, True, True) == (
        grant.token, grant.life, grant.since, grant.renewable, grant.kubernetes,
    )  # fmt: skip
    assert lease.due == found.due


def test_a_certificate_is_kept_without_a_token() -> None:
    """It hangs on none, so none is to lie about."""
    lease = a_lease()
    answer = Answer(data={"certificate": "PEM", "private_key": "KEY"})
    lease.issued = replace(lease.issued, answer=answer)
    body = write_record(lease, boot="b1")
    assert b"hvs.token" not in body
    assert NEVER == read_record(body, boot="b1", now=NOW).issued.grant.expires


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
    record = {**json.loads(write_record(a_lease(), boot="b1")), **change}
    with pytest.raises(BadRecordError, match=why) as caught:
        read_record(json.dumps(record).encode(), boot="b1", now=NOW)
    assert "hvs" not in str(caught.value)


@pytest.mark.parametrize("cut", [0, 1, 50, -1])
def test_half_a_record_is_refused(cut: int) -> None:
    """Whatever is left of it."""
    with pytest.raises(BadRecordError):
        read_record(write_record(a_lease(), boot="b1")[:cut], boot="b1", now=NOW)
