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

_WELL_FORMED_MARK = b" Hostile\r\n"


def http_response(status: int, body: bytes, headers: Mapping[str, str] | None = None) -> bytes:
    """An answer that HTTP can read, whatever is in it."""
    lines = [
        f"HTTP/1.1 {status}{_WELL_FORMED_MARK.decode().rstrip()}",
        f"Content-Length: {len(body)}",
    ]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


@dataclass
class HostileVaultApi:
    """The running server.

    Attributes:
        parameters: what a class says to reach it.
        responses: beginnings of paths, without `/v1/`, and what is answered there; the first that
            fits.
        request_count: how many requests came.
    """

    parameters: Mapping[str, str]
    responses: Mapping[str, bytes] = field(default_factory=dict)
    request_count: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until an answer that `reply` has not made."""
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(_content_length(head))
                self.request_count += 1
                answer = self._respond(head)
                writer.write(answer)
                await writer.drain()
                if _WELL_FORMED_MARK not in answer:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def _respond(self, head: bytes) -> bytes:
        target = head.split(b" ", 2)[1].decode("latin-1")
        path = target.partition("/v1/")[2]
        found = (answer for start, answer in self.responses.items() if path.startswith(start))
        return next(found, http_response(404, b'{"errors":[]}'))


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


@asynccontextmanager
async def hostile_vault_api() -> AsyncIterator[HostileVaultApi]:
    """Run the server on a free port of loopback."""
    vault = HostileVaultApi({})
    server = await asyncio.start_server(vault.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    vault.parameters = {"vaultAddress": f"http://127.0.0.1:{port}"}
    try:
        yield vault
    finally:
        server.close()
        await server.wait_closed()
