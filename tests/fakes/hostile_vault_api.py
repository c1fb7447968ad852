"""A server that answers requests of the Vault API with arbitrary bytes.

async with hostile_vault_api() as vault:
    vault.responses = {"auth/kubernetes/login": http_response(200, b"{")}
    vault.parameters["vaultAddress"]
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

_WELL_FORMED_MARK = b" Hostile\r\n"


def http_response(status: int, body: bytes, headers: Mapping[str, str] | None = None) -> bytes:
    """Return a well-formed HTTP response with arbitrary content."""
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
        parameters: SecretProviderClass parameters that select the server.
        responses: response by path prefix without `/v1/`; the first match is used.
        request_count: number of requests.
    """

    parameters: Mapping[str, str]
    responses: Mapping[str, bytes] = field(default_factory=dict)
    request_count: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection, until a response that `http_response` did not create."""
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(_content_length(head))
                self.request_count += 1
                response = self._respond(head)
                writer.write(response)
                await writer.drain()
                if _WELL_FORMED_MARK not in response:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def _respond(self, head: bytes) -> bytes:
        target = head.split(b" ", 2)[1].decode("latin-1")
        path = target.partition("/v1/")[2]
        matches = (response for start, response in self.responses.items() if path.startswith(start))
        return next(matches, http_response(404, b'{"errors":[]}'))


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
