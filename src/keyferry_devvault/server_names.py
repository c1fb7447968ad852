"""The TLS server name (SNI) of each connection, which the web server does not expose."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    import asyncio
    import ssl


class ServerNames:
    """Stores the server name of each open connection."""

    def __init__(self) -> None:
        self._names: WeakKeyDictionary[object, str] = WeakKeyDictionary()

    def track(self, context: ssl.SSLContext) -> None:
        """Store the names of all connections that `context` accepts."""

        def note(connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
            self._names[connection] = name or ""

        context.sni_callback = note

    def get(self, transport: asyncio.BaseTransport | None) -> str:
        """Return the server name that the client of a connection sent; "" for none."""
        connection = transport.get_extra_info("ssl_object") if transport else None
        return "" if connection is None else self._names.get(connection, "")
