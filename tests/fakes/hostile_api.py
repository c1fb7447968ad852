"""A server that answers requests of the Vault API with whatever bytes a test tells it.

async with hostile_api() as vault:
    vault.says = {"auth/kubernetes/login": reply(200, b"{"), "": reply(503, b"")}
    vault.parameters["vaultAddress"]
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

_WHOLE = b" Hostile\r\n"


def reply(status: int, body: bytes, headers: Mapping[str, str] | None = None) -> bytes:
    """An answer that HTTP can read, whatever is in it."""
    lines = [f"HTTP/1.1 {status}{_WHOLE.decode().rstrip()}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


@dataclass
class HostileApi:
    """The running server.

    Attributes:
        parameters: what a class says to reach it.
        says: beginnings of paths, without `/v1/`, and what is answered there; the first that fits.
        asked: how many requests came.
    """

    parameters: Mapping[str, str]
    says: Mapping[str, bytes] = field(default_factory=dict)
    asked: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until an answer that `reply` has not made."""
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(_length(head))
                self.asked += 1
                answer = self._answer(head)
                writer.write(answer)
                await writer.drain()
                if _WHOLE not in answer:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def _answer(self, head: bytes) -> bytes:
        target = head.split(b" ", 2)[1].decode("latin-1")
        path = target.partition("/v1/")[2]
        found = (answer for start, answer in self.says.items() if path.startswith(start))
        return next(found, reply(404, b'{"errors":[]}'))


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


@asynccontextmanager
async def hostile_api() -> AsyncIterator[HostileApi]:
    """Run the server on a free port of loopback."""
    vault = HostileApi({})
    server = await asyncio.start_server(vault.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    vault.parameters = {"vaultAddress": f"http://127.0.0.1:{port}"}
    try:
        yield vault
    finally:
        server.close()
        await server.wait_closed()
