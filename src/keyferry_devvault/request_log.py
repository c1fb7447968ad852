"""What was asked of the development vault: records and counts, never a value or a token."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from keyferry_devvault.http_types import RequestKind

_MAX_RECORDS = 100_000
NO_STATUS = 0
"""The status of a request without a complete response: a fault, or a disconnected client."""


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One request that is over.

    Attributes:
        kind: what it was about.
        status: of HTTP, or `NO_STATUS`.
        principal: the client id that asked, where it is known.
        note: what a person can do about a refusal.
    """

    method: str
    host: str
    path: str
    kind: RequestKind
    status: int
    principal: str | None
    note: str = ""

    def format_line(self) -> str:
        """The line of the access log, in which no client can write control characters."""
        status = self.status or "---"
        tail = f"  # {self.note}" if self.note else ""
        text = f"{self.method} {self.host} {self.path} {status} {self.principal or '-'}{tail}"
        return "".join(char if char.isprintable() else "?" for char in text)


class RequestLog:
    """Keeps the records of the last requests, and counts all of them.

    Attributes:
        records: the last requests, in the order in which they ended.
        counts: how many there were, by method and kind.
        in_flight: how many are being handled now.
        peak_in_flight: the most that ever were.
    """

    def __init__(self, on_record: Callable[[RequestRecord], None] | None = None) -> None:
        """`on_record` is called with every record."""
        self.records: deque[RequestRecord] = deque(maxlen=_MAX_RECORDS)
        self.counts: Counter[tuple[str, RequestKind]] = Counter()
        self.in_flight = 0
        self.peak_in_flight = 0
        self._on_record = on_record

    def begin(self) -> None:
        """A request came in."""
        self.in_flight += 1
        self.peak_in_flight = max(self.peak_in_flight, self.in_flight)

    def end(self, record: RequestRecord) -> None:
        """A request is over."""
        self.in_flight -= 1
        self.records.append(record)
        self.counts[record.method, record.kind] += 1
        if self._on_record:
            self._on_record(record)

    def clear(self) -> None:
        """Forget what was."""
        self.records.clear()
        self.counts.clear()
        self.peak_in_flight = self.in_flight
