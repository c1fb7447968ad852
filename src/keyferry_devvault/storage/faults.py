"""Fault injection: latency, throttling and faults, which can change while the server runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, assert_never

from msgspec.structs import asdict

from keyferry.errors import RequestInvalidError
from keyferry.records import replace
from keyferry_devvault.model import (
    CloseMidResponse,
    Fault,
    FaultAction,
    Hang,
    RespondStatus,
    Tuning,
)

if TYPE_CHECKING:
    import sqlite3

    from keyferry_devvault.storage.database import Database


class FaultInjectionTable:
    """The tables of tuning and faults."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def tuning(self) -> Tuning:
        """Return the current tuning."""

        def load(connection: sqlite3.Connection) -> Tuning:
            return Tuning(
                **{
                    name: value if name == "latency" or value is None else int(value)
                    for name, value in connection.execute("SELECT name, value FROM tuning")
                }
            )

        return self._database.read(("tuning",), load)

    def tune(self, tuning: Tuning) -> None:
        """Replace the current tuning.

        Raises:
            RequestInvalidError: a number is negative.
        """
        values = list(asdict(tuning).items())
        for name, value in values:
            if value is not None and value < 0:
                raise RequestInvalidError(f"{name} cannot be negative ({value})", "Pass 0 or more.")
        with self._database.write() as connection:
            connection.executemany("INSERT OR REPLACE INTO tuning VALUES (?, ?)", values)

    def add_fault(self, fault: Fault) -> None:
        """Add a fault after all others."""
        kind, status, retry_after, code = _action_columns(fault.action)
        with self._database.write() as connection:
            connection.execute(
                "INSERT INTO fault (match, kind, status, retry_after, remaining, code)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (fault.match, kind, status, retry_after, fault.remaining, code),
            )

    def faults(self) -> tuple[Fault, ...]:
        """Return all remaining faults, in the order in which they are matched."""
        return tuple(fault for _, fault in self._numbered_faults())

    def consume_fault(self, host: str, path: str) -> FaultAction | None:
        """Return the fault for this request and decrement its count; None for no fault."""
        for serial, fault in self._numbered_faults():
            if fault.matches(host, path):
                if fault.remaining is not None:
                    self._decrement(serial, fault)
                return fault.action
        return None

    def clear(self) -> None:
        """Reset the tuning and remove all faults."""
        with self._database.write() as connection:
            connection.execute("DELETE FROM tuning")
            connection.execute("DELETE FROM fault")

    def clear_faults(self, match: str | None = None) -> None:
        """Remove all faults, or those with this `match`. The tuning stays."""
        with self._database.write() as connection:
            connection.execute(
                "DELETE FROM fault WHERE :match IS NULL OR match = :match", {"match": match}
            )

    def _numbered_faults(self) -> tuple[tuple[int, Fault], ...]:
        def load(connection: sqlite3.Connection) -> tuple[tuple[int, Fault], ...]:
            rows = connection.execute(
                "SELECT serial, match, kind, status, retry_after, remaining, code"
                " FROM fault ORDER BY serial"
            )
            return tuple((serial, _fault_from_columns(values)) for serial, *values in rows)

        return self._database.read(("faults",), load)

    def _decrement(self, serial: int, fault: Fault) -> None:
        left = replace(fault, remaining=(fault.remaining or 0) - 1)
        with self._database.write() as connection:
            if left.remaining:
                connection.execute(
                    "UPDATE fault SET remaining = ? WHERE serial = ?", (left.remaining, serial)
                )
            else:
                connection.execute("DELETE FROM fault WHERE serial = ?", (serial,))


def _action_columns(action: FaultAction) -> tuple[str, int | None, int | None, str]:
    match action:
        case RespondStatus(status, retry_after, code):
            return "status", status, retry_after, code
        case CloseMidResponse():
            return "close", None, None, ""
        case Hang():
            return "hang", None, None, ""
        case _:
            assert_never(action)


def _fault_from_columns(values: list[Any]) -> Fault:
    match, kind, status, retry_after, remaining, code = values
    actions: dict[str, FaultAction] = {"close": CloseMidResponse(), "hang": Hang()}
    responds = RespondStatus(status or 500, retry_after, code)
    return Fault(match, actions.get(kind) or responds, remaining)
