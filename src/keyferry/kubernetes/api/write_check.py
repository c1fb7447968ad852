"""The check before a write to the Kubernetes API: of all replicas, one may write. [pure]"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

WriteCheck: TypeAlias = "Callable[[], None]"
"""Called right before a write is sent, after it waited for other writes of this process.

Raises:
    StoreError: this process may not write any more. The write is then not sent.
"""


def permit_write() -> None:
    """Permit every write."""
