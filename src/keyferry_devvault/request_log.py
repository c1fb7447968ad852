"""Records and counts of the requests to the emulator, without values or tokens."""

from __future__ import annotations

from collections import Counter, deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Callable

    from keyferry_devvault.http_types import RequestKind

_MAX_RECORDS = 100_000
NO_STATUS = 0
"""The status of a request without a complete response: a fault, or a client that disconnected."""


class RequestRecord(Struct, frozen=True):
    """One completed request.

    Attributes:
        at: when it was completed, in Unix time.
        kind: its kind.
        status: the HTTP status, or `NO_STATUS`.
        principal: the client ID of the caller; "" if unknown.
        note: a hint on how to fix an error.
    """

    at: float
    method: str
    host: str
    path: str
    kind: RequestKind
    status: int
    principal: str | None
    note: str = ""

    def format_line(self) -> str:
        """Return the line of the access log, in UTC, with control characters escaped."""
        time = f"{datetime.fromtimestamp(self.at, UTC):%Y-%m-%dT%H:%M:%SZ}"
        status = self.status or "---"
        tail = f"  # {self.note}" if self.note else ""
        text = (
            f"{time} {self.method} {self.host} {self.path} {status} {self.principal or '-'}{tail}"
        )
        return "".join(char if char.isprintable() else "?" for char in text)


class RequestLog:
    """Records the last requests, and counts all requests.

    Attributes:
        records: the last requests, in the order of their completion.
        counts: the number of requests by method and kind.
        in_flight: the number of current requests.
        peak_in_flight: the maximum of `in_flight`.
    """

    def __init__(self, on_record: Callable[[RequestRecord], None] | None = None) -> None:
        """Call `on_record` with each record."""
        self.records: deque[RequestRecord] = deque(maxlen=_MAX_RECORDS)
        self.counts: Counter[tuple[str, RequestKind]] = Counter()
        self.in_flight = 0
        self.peak_in_flight = 0
        self._on_record = on_record

    def begin(self) -> None:
        """Count a request that starts."""
        self.in_flight += 1
        self.peak_in_flight = max(self.peak_in_flight, self.in_flight)

    def end(self, record: RequestRecord) -> None:
        """Record a request that is complete."""
        self.in_flight -= 1
        self.records.append(record)
        self.counts[record.method, record.kind] += 1
        if self._on_record:
            self._on_record(record)

    def clear(self) -> None:
        """Remove all records and counts."""
        self.records.clear()
        self.counts.clear()
        self.peak_in_flight = self.in_flight
