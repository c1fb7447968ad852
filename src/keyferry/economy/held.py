"""The answers that are held in memory for a while, and who uses them. [pure]

An answer is held as long as somebody may still profit from it: without a user for the short time in
which first mounts share it, with a user for as long as a refresh may share or prove it. All of them
together are bounded in bytes; the longest unused go first.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from collections.abc import Set as AbstractSet

    from keyferry.economy.key import FetchKey

_PROVABLE_SECONDS = 3600.0
"""A proof tells that a content is the same, not that its reader may still read it: a permission
that is taken away counts after so long, even where what proves is still allowed."""


@dataclass(frozen=True, slots=True)
class HoldLimits:
    """How long and how much. Times in seconds."""

    unused: float
    """An answer that no volume uses is held so long."""
    used: float
    """One that a volume uses."""
    max_bytes: int
    """All of them together."""


@dataclass(slots=True)
class Answer:
    """An answer of a vault.

    Attributes:
        value: it.
        size: in bytes.
        since: when the vault was asked, or last proved that nothing has changed.
        fetched: when it was asked.
    """

    value: Any = field(repr=False)
    size: int
    since: float
    fetched: float


class HeldAnswers:
    """The answers that are held. Times are seconds from an arbitrary start."""

    def __init__(self, limits: HoldLimits) -> None:
        self._limits = limits
        self._answers: OrderedDict[FetchKey, Answer] = OrderedDict()
        self._bytes = 0
        self._users: dict[FetchKey, set[str]] = {}
        self._used: dict[str, dict[FetchKey, float]] = {}

    @property
    def size(self) -> int:
        """The bytes that are held."""
        return self._bytes

    def get(self, key: FetchKey) -> Answer | None:
        """The answer, however old; it goes later than those that nobody got since."""
        answer = self._answers.get(key)
        if answer is not None:
            self._answers.move_to_end(key)
        return answer

    def put(self, key: FetchKey, value: object, *, size: int, since: float) -> None:
        """Hold an answer in the place of an older one, unless it is larger than all may be."""
        self.drop(key)
        if size > self._limits.max_bytes:
            return
        self._answers[key] = Answer(value, size, since, since)
        self._bytes += size
        while self._bytes > self._limits.max_bytes:
            self.drop(next(iter(self._answers)))

    def prove(self, key: FetchKey, *, since: float) -> None:
        """The vault proved at `since` that nothing has changed."""
        if answer := self._answers.get(key):
            answer.since = max(answer.since, since)

    def drop(self, key: FetchKey) -> None:
        """Hold it no longer."""
        if answer := self._answers.pop(key, None):
            self._bytes -= answer.size

    def clear(self) -> None:
        """Hold nothing, for nobody."""
        self._answers.clear()
        self._bytes = 0
        self._users.clear()
        self._used.clear()

    def use(self, key: FetchKey, user: str, *, since: float) -> None:
        """`user` has got the answer that the vault gave or proved at `since`."""
        self._users.setdefault(key, set()).add(user)
        self._used.setdefault(user, {})[key] = since

    def settle(self, user: str, keys: AbstractSet[FetchKey]) -> None:
        """Of all that `user` ever got it uses these alone."""
        used = self._used.pop(user, {})
        for key in used.keys() - keys:
            users = self._users[key]
            users.discard(user)
            if not users:
                del self._users[key]
        if kept := {key: since for key, since in used.items() if key in keys}:
            self._used[user] = kept

    def user_gone(self, user: str) -> None:
        """`user` needs nothing any more."""
        self.settle(user, frozenset())

    def used_by(self, user: str) -> Mapping[FetchKey, float]:
        """When the vault gave or proved what `user` has got."""
        return self._used.get(user, {})

    def oldest(self) -> float | None:
        """When the oldest of what users have got was given or proved; None without users."""
        return min((since for used in self._used.values() for since in used.values()), default=None)

    def provable(self, key: FetchKey, *, now: float) -> Answer | None:
        """The answer, however old, unless the vault is to decide about it anew."""
        answer = self._answers.get(key)
        return answer if answer and now - answer.fetched < _PROVABLE_SECONDS else None

    def select_provable(
        self, wanted: Callable[[FetchKey, Any], bool], *, now: float
    ) -> dict[FetchKey, Any]:
        """The values of the provable answers that are wanted."""
        return {
            key: answer.value
            for key, answer in self._answers.items()
            if self.provable(key, now=now) and wanted(key, answer.value)
        }

    def sweep(self, now: float) -> float | None:
        """Drop what is too old; returns when the next one is, or None when nothing is held."""
        ends = {key: answer.since + self._lifetime(key) for key, answer in self._answers.items()}
        for key in [key for key, end in ends.items() if end <= now]:
            self.drop(key)
            del ends[key]
        return min(ends.values(), default=None)

    def _lifetime(self, key: FetchKey) -> float:
        return self._limits.used if key in self._users else self._limits.unused
