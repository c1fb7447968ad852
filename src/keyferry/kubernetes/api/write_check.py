"""Permits the writes of a process, of which only one may write at a time. [pure]"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

WriteCheck: TypeAlias = "Callable[[], None]"
"""Called right before a write is sent, after it waited for others.

Raises:
    StoreError: this process may not write any more.
"""


def permit_write() -> None:
    """Permit every write."""
