from __future__ import annotations

from keyferry_devvault.http_types import RequestKind
from keyferry_devvault.request_log import NO_STATUS, RequestLog, RequestRecord

TIME = "1970-01-01T00:00:00Z "


def record(path: str = "/secrets/db", status: int = 200, note: str = "") -> RequestRecord:
    return RequestRecord(0.0, "GET", "contoso", path, RequestKind.SECRET, status, "me", note)


def test_a_line_says_who_asked_for_what_and_how_it_ended() -> None:
    """With what a person can do about it, where there is something."""
    assert f"{TIME}GET contoso /secrets/db 200 me" == record().format_line()
    assert "GET contoso /secrets/db 403 me  # ask" == record(
        status=403, note="ask"
    ).format_line().removeprefix(TIME)
    assert "GET contoso /secrets/db --- me" == record(status=NO_STATUS).format_line().removeprefix(
        TIME
    )


def test_a_client_cannot_write_lines_or_escapes_into_the_log() -> None:
    """A decoded path may hold anything."""
    assert "GET contoso /a?b?[2J 200 me" == record("/a\nb\x1b[2J").format_line().removeprefix(TIME)


def test_requests_are_counted_by_method_and_kind() -> None:
    """The peak is the most that were being handled at once."""
    reported: list[RequestRecord] = []
    journal = RequestLog(reported.append)
    for _ in range(2):
        journal.begin()
    for _ in range(2):
        journal.end(record())
    assert ({("GET", RequestKind.SECRET): 2}, 0, 2) == (
        journal.counts,
        journal.in_flight,
        journal.peak_in_flight,
    )
    assert reported == list(journal.records)
    journal.clear()
    assert (0, 0) == (len(journal.records), journal.peak_in_flight)
