from __future__ import annotations

import pytest

from keyferry.errors import RequestInvalidError
from keyferry_devvault.model import CloseMidResponse, Fault, Hang, RespondStatus, Tuning
from keyferry_devvault.parsing import (
    format_fault,
    format_tuning,
    parse_duration,
    parse_fault,
    parse_rate,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("20ms", 0.02), ("1.5s", 1.5), ("5m", 300), ("1h", 3600), (" 7d ", 604_800)],
)
def test_a_duration_has_a_unit(text: str, seconds: float) -> None:
    """Seconds come out, whatever the unit."""
    assert seconds == pytest.approx(parse_duration(text))


@pytest.mark.parametrize("text", ["", "20", "ms", "-1s", "1 s", "1y"])
def test_other_durations_are_refused(text: str) -> None:
    """The message repeats the text and shows how to write it."""
    with pytest.raises(RequestInvalidError, match=r"is not a duration. Write it as 20ms"):
        parse_duration(text)


def test_a_rate_is_per_second_or_off() -> None:
    """`off` is no limit, 0 is a vault that answers nobody."""
    assert [10, 0, None] == [parse_rate("10/s"), parse_rate("0/s"), parse_rate("off")]


@pytest.mark.parametrize("text", ["10", "10/m", "-1/s", "ten/s"])
def test_other_rates_are_refused(text: str) -> None:
    """The message shows how to write it."""
    with pytest.raises(RequestInvalidError, match="is not a rate"):
        parse_rate(text)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("/secrets 500", Fault("/secrets", RespondStatus(500))),
        (
            "kv.vault.azure.net 429 retry-after=2 x3",
            Fault("kv.vault.azure.net", RespondStatus(429, 2), 3),
        ),
        (
            "login.microsoftonline.com close x1",
            Fault("login.microsoftonline.com", CloseMidResponse(), 1),
        ),
        (
            "kv.vault.azure.net 403 code=ForbiddenByFirewall",
            Fault("kv.vault.azure.net", RespondStatus(403, code="ForbiddenByFirewall")),
        ),
        ("/metadata hang", Fault("/metadata", Hang())),
    ],
)
def test_a_fault_is_read_and_shown_in_the_same_words(text: str, fault: Fault) -> None:
    """What `tune` shows is accepted as input."""
    assert fault == parse_fault(text)
    assert text == format_fault(fault)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/x",
        "/x 99",
        "/x 600",
        "/x sleep",
        "/x 429 retry-after=soon",
        "/x 403 code=<script>",
        "/x close 3",
        "/x hang x0",
    ],
)
def test_other_faults_are_refused(text: str) -> None:
    """The message shows examples."""
    with pytest.raises(RequestInvalidError, match="is not a fault"):
        parse_fault(text)


def test_a_tuning_is_one_line() -> None:
    """Numbers are shown with their units."""
    shown = format_tuning(Tuning(latency=0.02, throttle=10, retry_after=2, token_lifetime=60))
    assert shown == "latency 20ms, throttle 10/s, retry-after 2s, token-lifetime 60s"
    assert "throttle off" in format_tuning(Tuning())
