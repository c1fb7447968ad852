"""Records the TLS server name (SNI) of each client, which the web server does not expose."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    import asyncio
    import ssl


class ServerNames:
    """Remembers the name of each connection while it lives."""

    def __init__(self) -> None:
        self._names: WeakKeyDictionary[object, str] = WeakKeyDictionary()

    def track(self, context: ssl.SSLContext) -> None:
        """Remember the names of all connections that `context` accepts from now on."""

        def note(connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
            self._names[connection] = name or ""

        context.sni_callback = note

    def get(self, transport: asyncio.BaseTransport | None) -> str:
        """The name that the client of a connection asked for; "" for none."""
        connection = transport.get_extra_info("ssl_object") if transport else None
        return "" if connection is None else self._names.get(connection, "")
