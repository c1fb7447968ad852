"""HTTP failures that can be retried, and Retry-After headers. [pure]"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from keyferry.errors import VaultThrottledError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keyferry.errors import KeyferryError
from email.utils import parsedate_to_datetime

RETRY_STATUSES = frozenset({408, 429, 500, 502, 503, 504})
"""HTTP statuses that can be retried."""


class RetryableFailure(Struct, frozen=True):
    """A failed attempt that can be retried.

    Attributes:
        error: error to raise if there is no retry.
        retry_after: seconds of the Retry-After header, or None.
        cause: exception to chain `error` to; None if its text could contain a secret value.
        host_fault: whether the host failed, not only this request.
        chosen_by_caller: whether the request chose its own status, which therefore says nothing
            about the host.
    """

    error: KeyferryError
    retry_after: float | None = None
    cause: Exception | None = None
    host_fault: bool = True
    chosen_by_caller: bool = False

    @property
    def is_throttled(self) -> bool:
        """Whether the host throttles requests."""
        if self.chosen_by_caller:
            return False
        return self.retry_after is not None or isinstance(self.error, VaultThrottledError)


def retry_after_seconds(headers: Mapping[str, str], *, now: float) -> float | None:
    """Return the seconds of a valid Retry-After header; None without one.

    Args:
        headers: response headers; the mapping ignores case.
        now: seconds since the epoch, for a header with a date.
    """
    for name in ("retry-after-ms", "x-ms-retry-after-ms"):
        milliseconds = _number(headers.get(name, ""))
        if milliseconds is not None:
            return milliseconds / 1000
    text = headers.get("Retry-After", "")
    seconds = _number(text)
    return seconds if seconds is not None else _until(text, now=now)


def _number(text: str) -> float | None:
    """Parse a decimal number; reject `nan`, `inf` and `1_0`, which float() accepts."""
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
