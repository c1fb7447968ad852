"""The outcome of an HTTP attempt that may be repeated, and Retry-After. [pure]"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from keyferry.errors import VaultThrottledError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keyferry.errors import KeyferryError
from email.utils import parsedate_to_datetime

RETRY_STATUSES = frozenset({408, 429, 500, 502, 503, 504})
"""The HTTP statuses that say "later", not "no"."""


@dataclass(frozen=True, slots=True)
class RetryableFailure:
    """One try failed, and another may end better.

    Attributes:
        error: what to raise when there is none.
        retry_after: seconds the server asked to wait.
        cause: what `error` is chained to; None where its text could hold a secret value.
        host_fault: whether the server as a whole failed, and not what was asked of it.
    """

    error: KeyferryError
    retry_after: float | None = None
    cause: Exception | None = None
    host_fault: bool = True

    @property
    def is_throttled(self) -> bool:
        """Whether the server said "later", to everybody."""
        return self.retry_after is not None or isinstance(self.error, VaultThrottledError)


def retry_after_seconds(headers: Mapping[str, str], *, now: float) -> float | None:
    """The pause in seconds that a response asks for, if it does so readably.

    Args:
        headers: of the response, with names compared case-insensitively by the mapping itself.
        now: seconds since the epoch, for the form that is a date.
    """
    for name in ("retry-after-ms", "x-ms-retry-after-ms"):
        milliseconds = _number(headers.get(name, ""))
        if milliseconds is not None:
            return milliseconds / 1000
    text = headers.get("Retry-After", "")
    seconds = _number(text)
    return seconds if seconds is not None else _until(text, now=now)


def _number(text: str) -> float | None:
    """Plain digits as a number; not the `nan`, `inf` or `1_0` that float() also reads."""
    whole, _, fraction = text.strip().partition(".")
    digits = whole + fraction
    if not whole or len(digits) > 12 or not (digits.isascii() and digits.isdigit()):
        return None
    return float(f"{whole}.{fraction or 0}")


def _until(text: str, *, now: float) -> float | None:
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, OverflowError):
        return None
