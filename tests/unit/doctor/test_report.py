"""Reports, requests and tokens of `keyferry doctor`."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from keyferry.doctor.checks import Check, DoctorStage, Report, Status, ok, skipped
from keyferry.doctor.reports import conclusion, document, report_lines
from keyferry.doctor.request import (
    ProbeRequest,
    WantedSecret,
    decode_checks,
    decode_request,
    encode_checks,
    encode_request,
)
from keyferry.doctor.tokens import token_checks
from keyferry.errors import RequestInvalidError
from tests.fakes.vault_auth import service_account_token
from tests.fakes.vault_mounts import tokens_json

S = DoctorStage
CANARY = "canary-91cc02de"
PAGE = Path(__file__).parents[3] / "docs/operations/doctor.md"
FAILED = Check(S.TLS, "host", Status.FAILED, {"issuer": "CN=ca"}, "not accepted", "fix", 4)


def test_every_stage_has_a_row_in_the_page_in_its_order() -> None:
    """The page explains what the command prints."""
    table = PAGE.read_text().partition("## Stages")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `([a-z-]+)` \|", table, re.MULTILINE)
    assert [str(stage) for stage in DoctorStage] == rows


def test_text_has_a_line_for_each_check_and_a_hint_below_a_failure() -> None:
    """And a last line that names the broken stage."""
    report = Report("pod/web", (ok(S.TCP, "host", {"peer": "a"}), FAILED))
    lines = list(report_lines([report], lambda _, word: word))
    assert ["pod/web", "Broken: tls of host."] == [lines[0], lines[-1]]
    assert lines[1].startswith("ok       tcp")
    assert "not accepted  issuer=CN=ca" in lines[2]
    assert "         hint: fix" == lines[3]


def test_control_characters_of_another_machine_are_not_printed() -> None:
    """They could change what a terminal shows; the colour of the status stays."""
    check = Check(S.TLS, "host", Status.FAILED, {"a": "\x1b[2K"}, "x\ny", "fix\x07", 4)
    lines = list(report_lines([Report("x", (check,))], lambda _, word: f"\x1b[31m{word}\x1b[0m"))
    assert lines[1].startswith("\x1b[31mfailed")
    assert "x?y  a=?[2K" in lines[1]
    assert lines[2].endswith("fix?")


def test_only_a_complete_report_says_that_everything_works() -> None:
    """A skipped stage may hide a failure."""
    rendered = ok(S.RENDERING, "volume")
    unknown = skipped(S.OBJECT, "all objects", "no right")
    assert "Everything works." == conclusion(Report("x", (rendered,)))
    assert "Not checked: object of all objects." == conclusion(Report("x", (unknown,)))
    assert "Broken: tls of host; 1 further check failed." == conclusion(
        Report("x", (FAILED, FAILED))
    )


def test_document_names_the_broken_stage_and_has_facts_in_camel_case() -> None:
    """For programs."""
    check = ok(S.TLS, "host", {"valid until": "2030"})
    (entry,) = document([Report("pod/web", (check, FAILED))])
    assert ("tls", "host", False) == (entry["brokenStage"], entry["brokenSubject"], entry["ok"])
    assert '"validUntil": "2030"' in json.dumps(entry)


def test_a_request_survives_its_encoding_and_shows_nothing_secret() -> None:
    """It is one line."""
    request = ProbeRequest(
        "azure",
        {"a": "b"},
        {"token": CANARY},
        {"clientsecret": CANARY},
        wanted_secrets=(WantedSecret("app", "Opaque", (("a", "b"),)),),
        arguments=("driver", "--nodeid=n"),
    )
    line = encode_request(request)
    assert request == decode_request(line)
    assert 1 == line.count(b"\n")
    assert CANARY not in repr(request)


@pytest.mark.parametrize("line", [b"", b"{}", b"\xff", b'{"provider": "canary"}', b"[" * 10_000])
def test_a_line_that_is_no_request_is_not_quoted(line: bytes) -> None:
    """It could hold a token."""
    with pytest.raises(RequestInvalidError) as caught:
        decode_request(line)
    assert "canary" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_checks_survive_their_encoding() -> None:
    """With the exit code."""
    assert (FAILED,) == decode_checks(encode_checks((FAILED,)))
    with pytest.raises(RequestInvalidError):
        decode_checks(b"Traceback")


def test_a_token_shows_issuer_subject_audience_and_expiry_only() -> None:
    """An expired one is a failure."""
    token = service_account_token("shop/web", exp=2_000_000_000)
    tokens = tokens_json(vault=token)
    (check,) = token_checks(tokens, {"vault"}, now=0.0, exit_code=lambda _: 3)
    assert ("shop/web", Status.OK) == (check.subject, check.status)
    assert {
        "issuer": "https://cluster.test",
        "subject": "system:serviceaccount:shop:web",
        "audience": "vault",
        "expires": "2033-05-18 03:33 UTC",
    } == check.facts
    assert token not in repr(check)
    (expired,) = token_checks(tokens, {"vault"}, now=2e9, exit_code=lambda _: 3)
    assert (Status.FAILED, 3) == (expired.status, expired.exit_code)


def test_an_identity_without_a_token_needs_no_check_of_one() -> None:
    """And a missing token is reported by the parser of the parameters."""
    (check,) = token_checks("", (), now=0.0, exit_code=lambda _: 3)
    assert Status.SKIPPED is check.status
    assert [] == token_checks("", {"vault"}, now=0.0, exit_code=lambda _: 3)
