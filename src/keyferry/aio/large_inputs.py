"""Parses large inputs of one tenant without delaying others.

The parameters of a SecretProviderClass may have a megabyte. Parsing them takes seconds of Python,
in which an event loop would do nothing else. Large ones are parsed on a thread: Python switches
between threads every few milliseconds. A tenant has one such thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from keyferry.aio.tenant_threads import TenantThreads

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

T = TypeVar("T")

MAX_INLINE_BYTES = 16 * 1024
"""Up to this size, a thread costs more than the parser."""


class LargeInputParser:
    """Runs pure parsers."""

    def __init__(self) -> None:
        self._threads = TenantThreads("parse", max_threads=4, max_per_tenant=1)

    async def run(self, parse: Callable[[], T], parameters: Mapping[str, str], *, tenant: str) -> T:
        """Return the result of `parse`, or raise its exception.

        Args:
            parse: a pure function.
            parameters: what it parses.
            tenant: the namespace of the SecretProviderClass.
        """
        if sum(map(len, parameters.values())) <= MAX_INLINE_BYTES:
            return parse()
        return await self._threads.run(tenant, parse)
