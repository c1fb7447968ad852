"""What a server was asked, from its own audit log."""

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
        operation: `read`, `update` and so on, as policies call them.
        path: below `/v1/`.
        who: the display name of the token; "" at a login.
        role: that a login asked for, which the log does not hide.
        error: why it was refused; "" when it was not.
    """

    operation: str
    path: str
    who: str
    error: str

    @property
    def is_login(self) -> bool:
        """Whether it was a login of any auth method."""
        return self.path.startswith("auth/") and self.path.endswith("/login")


class AuditLog:
    """The audit log of one server.

    Args:
        path: of its file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def mark(self) -> int:
        """The place where it ends now, to look at what comes later."""
        return self.path.stat().st_size if self.path.exists() else 0

    def entries(self, *, after: int = 0) -> list[AuditEntry]:
        """Every request beyond the place `after`, in the order of the answers."""
        return list(self._read_entries(after))

    def logins(self, *, after: int = 0) -> list[AuditEntry]:
        """The logins among them, refused ones too."""
        return [one for one in self._read_entries(after) if one.is_login]

    def of_path(self, path: str, *, after: int = 0) -> list[AuditEntry]:
        """The requests for one path."""
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
