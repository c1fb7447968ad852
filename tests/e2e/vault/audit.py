"""Reads the audit log of a server, to count and inspect its requests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class AuditEntry:
    """One request that the server answered.

    Attributes:
        operation: `read`, `update` and so on, as in policies.
        path: path below `/v1/`.
        who: display name of the token; "" for a login.
        role: role of a login, which the log does not hide.
        error: error of the response; "" for a success.
    """

    operation: str
    path: str
    who: str
    error: str

    @property
    def is_login(self) -> bool:
        """Return whether the request is a login of any auth method."""
        return self.path.startswith("auth/") and self.path.endswith("/login")


class AuditLog:
    """The audit log of one server.

    Args:
        path: path of the log file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def mark(self) -> int:
        """Return the current end of the log, as the start for later queries."""
        return self.path.stat().st_size if self.path.exists() else 0

    def entries(self, *, after: int = 0) -> list[AuditEntry]:
        """Return the requests after the position `after`, in the order of their responses."""
        return list(self._read_entries(after))

    def logins(self, *, after: int = 0) -> list[AuditEntry]:
        """Return the logins after a position, including rejected ones."""
        return [one for one in self._read_entries(after) if one.is_login]

    def of_path(self, path: str, *, after: int = 0) -> list[AuditEntry]:
        """Return the requests for one path."""
        return [one for one in self._read_entries(after) if one.path == path]

    def _read_entries(self, after: int) -> Iterator[AuditEntry]:
        with self.path.open("rb") as log:
            log.seek(after)
            for line in log:
                entry: dict[str, Any] = json.loads(line)
                if entry["type"] == "response":
                    request = entry["request"]
                    yield AuditEntry(
                        request["operation"],
                        request["path"],
                        entry.get("auth", {}).get("display_name", ""),
                        entry.get("error", ""),
                    )
