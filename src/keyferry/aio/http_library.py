"""aiohttp, imported without the CAs of the machine.

When it is imported, aiohttp creates two TLS contexts with all CAs of the machine. Each takes 30 ms
and 1 MiB, and Keyferry uses neither: `net/connector.py` creates its own context when one is needed.
Modules of Keyferry import aiohttp from here.
"""

from __future__ import annotations

import ssl
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def _without_system_cas() -> Iterator[None]:
    """Create TLS contexts that trust no CA while the block runs.

    A connection with such a context fails, so no server is trusted by mistake.
    """

    def load_nothing(_: ssl.SSLContext) -> None:
        """Replace `set_default_verify_paths`, which the base class defines."""

    ssl.SSLContext.set_default_verify_paths = load_nothing  # type: ignore[assignment,method-assign]
    try:
        yield
    finally:
        del ssl.SSLContext.set_default_verify_paths


with _without_system_cas():
    import aiohttp
    import aiohttp.abc
    import aiohttp.http

__all__ = ["aiohttp"]
