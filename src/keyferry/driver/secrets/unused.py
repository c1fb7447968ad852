"""Secrets that no pod uses any more, and when their grace period ends.

A deadline is counted by the monotonic clock of this process:

1. This node marked the Secret: one grace period after its last pod. A file with the names keeps
   that across restarts, where the elapsed time is read from the wall clock of this node.
2. Another node marked it: a whole grace period, and a random delay, after this node saw the mark.
   The clock of the other node is not used. So the node that marked the Secret acts first, and this
   one acts if that node does not exist any more.
"""

from __future__ import annotations

import asyncio
import json
import random
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from msgspec import Struct

from keyferry.formats.fields import Field, FieldTypeError
from keyferry.formats.private_files import read_private_file, write_private_file
from keyferry.telemetry.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from keyferry.aio.clock import Clock
    from keyferry.kubernetes.names import NamespacedName

MAX_FILE_BYTES = 1024 * 1024
OTHER_NODE_MARGIN_SECONDS = 60.0
"""The shortest additional delay for a Secret that another node marked."""

_log = get_logger("unused")


class _Entry(Struct, frozen=True):
    """One unused Secret.

    Attributes:
        deadline: monotonic seconds.
        mark: the mark in the cluster from which it is counted.
        since: when its last pod stopped using it, by the clock of this node; None if another node
            marked it.
        provisional: its last pod still terminates.
    """

    deadline: float
    mark: str
    since: datetime | None = None
    provisional: bool = False


class UnusedSecrets:
    """Tracks the unused Secrets that this node may have to delete.

    Args:
        clock: deadlines.
        grace_period: seconds between the last use of a Secret and its deletion; 0 deletes at once.
        file: keeps the names across restarts; None to keep them in memory only.
        jitter: returns a number from 0 to 1.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        grace_period: float = 0.0,
        file: Path | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.grace_period = grace_period
        self._clock = clock
        self._file = file
        self._jitter = jitter
        self._entries: dict[NamespacedName, _Entry] = {}
        self._saving = asyncio.Lock()
        self._reported = False

    def __contains__(self, key: NamespacedName) -> bool:
        """Whether a deadline is counted for the Secret."""
        return key in self._entries

    def tracked(self) -> set[NamespacedName]:
        """Return the tracked Secrets."""
        return set(self._entries)

    def is_provisional(self, key: NamespacedName) -> bool:
        """Whether the last pod of the Secret was still terminating when it was marked."""
        entry = self._entries.get(key)
        return entry is not None and entry.provisional

    def remaining(self, key: NamespacedName) -> float:
        """Return the seconds until the Secret may be deleted; 0 if it is not tracked."""
        entry = self._entries.get(key)
        return max(0.0, entry.deadline - self._clock.monotonic()) if entry else 0.0

    def mark(self, key: NamespacedName) -> str:
        """Return the mark from which the grace period of a Secret is counted; "" if it is not."""
        entry = self._entries.get(key)
        return entry.mark if entry else ""

    async def start(self, key: NamespacedName, *, provisional: bool = False) -> None:
        """Start the grace period of a Secret that this node marks with the result of `mark`."""
        deadline, since = self._clock.monotonic() + self.grace_period, self._clock.wall()
        self._entries[key] = _Entry(deadline, _mark(since), since, provisional)
        await self._save()

    def observe(self, key: NamespacedName, mark: str) -> bool:
        """Track a Secret with this mark. Returns whether another node set it, and it is new."""
        if self.mark(key) == mark:
            return False
        wait = OTHER_NODE_MARGIN_SECONDS + self.grace_period * (1.0 + self._jitter())
        self._entries[key] = _Entry(self._clock.monotonic() + wait, mark)
        return True

    def forget(self, key: NamespacedName) -> None:
        """Stop tracking a Secret: a pod uses it again, or it does not exist any more."""
        # The file follows with the next write. An outdated name in it has no effect.
        self._entries.pop(key, None)

    async def load(self) -> None:
        """Track the Secrets that an earlier process marked."""
        if self._file is None:
            return
        marked = await asyncio.to_thread(_read, self._file)
        now = self._clock.wall()
        for key, since in marked.items():
            # Whatever the clock says, between 0 and one grace period has elapsed.
            elapsed = min(max((now - since).total_seconds(), 0.0), self.grace_period)
            deadline = self._clock.monotonic() + self.grace_period - elapsed
            self._entries.setdefault(key, _Entry(deadline, _mark(since), since))

    async def _save(self) -> None:
        if self._file is None:
            return
        async with self._saving:
            marked = {key: entry.since for key, entry in self._entries.items() if entry.since}
            try:
                await asyncio.to_thread(_write, self._file, marked)
            except OSError as error:
                if not self._reported:
                    self._reported = True
                    _log.warning(
                        "grace periods of Secrets will not survive a restart",
                        file=str(self._file),
                        error=error.strerror or type(error).__name__,
                    )


def _mark(since: datetime) -> str:
    return since.astimezone(UTC).isoformat(timespec="seconds")


def _write(file: Path, marked: Mapping[NamespacedName, datetime]) -> None:
    entries = [
        {"namespace": namespace, "name": name, "since": since.isoformat()}
        for (namespace, name), since in sorted(marked.items())
    ]
    write_private_file(file, json.dumps({"secrets": entries}).encode())


def _read(file: Path) -> dict[NamespacedName, datetime]:
    """Return the marked Secrets; an unreadable file counts as empty."""
    found = {}
    try:
        content = Field(json.loads(read_private_file(file, max_bytes=MAX_FILE_BYTES)))
        for item in content["secrets"].items():
            since = datetime.fromisoformat(item["since"].text())
            if since.tzinfo is not None:
                found[item["namespace"].text(), item["name"].text()] = since
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError, FieldTypeError) as error:
        _log.warning("unusable list of unused Secrets", file=str(file), type=type(error).__name__)
    return found
