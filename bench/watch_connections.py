"""`python -m bench.watch_connections`: what the watches of nodes cost an API server.

Opens the watches of many nodes on a real kube-apiserver: over one HTTP/1.1 connection each, as
Keyferry does, and over one HTTP/2 connection for each node, as client-go does. Prints memory of
the Go runtime and CPU time of the API server, without what it used before.
"""

from __future__ import annotations

import argparse
import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import h2.connection
import h2.events

from bench.processes import cpu_seconds
from tests.e2e.cluster.api_server import ADMINISTRATORS, ApiServer, running_api_server

WATCH = "/api/v1/namespaces/default/configmaps?watch=1&allowWatchBookmarks=true&timeoutSeconds=3000"
MEMORY = ("go_memstats_heap_alloc_bytes", "go_memstats_stack_inuse_bytes")
READINGS = 14
"""The memory of a phase is the least of these readings, because garbage comes and goes."""
READING_SECONDS = 2.0


@dataclass
class Client:
    """Opens watches.

    Attributes:
        server: the API server.
        tls: context for each protocol.
        writers: the open connections.
    """

    server: ApiServer
    tls: Mapping[str, ssl.SSLContext]
    writers: list[asyncio.StreamWriter]

    async def open_watch(self) -> None:
        """Open a watch over a connection of HTTP/1.1 of its own."""
        reader, writer = await self._connect("http/1.1")
        writer.write(f"GET {WATCH} HTTP/1.1\r\nHost: server\r\n\r\n".encode())
        status = await reader.readuntil(b"\r\n")
        if b" 200 " not in status:
            raise RuntimeError(status.decode())
        self.writers.append(writer)

    async def open_streams(self, count: int) -> None:
        """Open watches over one connection of HTTP/2."""
        reader, writer = await self._connect("h2")
        connection = h2.connection.H2Connection()
        connection.initiate_connection()
        for _ in range(count):
            headers = {":method": "GET", ":path": WATCH, ":scheme": "https", ":authority": "server"}
            stream = connection.get_next_available_stream_id()
            connection.send_headers(stream, headers.items(), end_stream=True)
        writer.write(connection.data_to_send())
        answered = 0
        while answered < count:
            for event in connection.receive_data(await reader.read(1 << 16)):
                answered += isinstance(event, h2.events.ResponseReceived)
            writer.write(connection.data_to_send())
        self.writers.append(writer)

    async def memory(self) -> int:
        """Return the bytes of the heap and the stacks of the API server."""
        least = 1 << 62
        for _ in range(READINGS):
            await asyncio.sleep(READING_SECONDS)
            text = await self.server.kubectl("get", "--raw=/metrics")
            lines = (line.split() for line in text.splitlines() if line.startswith(MEMORY))
            least = min(least, sum(int(float(value)) for _, value in lines))
        return least

    def close(self) -> None:
        """Close all connections."""
        for writer in self.writers:
            writer.close()
        self.writers.clear()

    async def _connect(self, protocol: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        address = self.server.address
        return await asyncio.open_connection(address.host, address.port, ssl=self.tls[protocol])


async def measure(nodes: int, watches: int, rounds: int) -> None:
    """Measure both in turn, and print a line for each."""
    with TemporaryDirectory(prefix="kf-", dir="/dev/shm") as folder:
        async with running_api_server(Path(folder)) as server:
            contexts = {each: _tls(server, each) for each in ("http/1.1", "h2")}
            client = Client(server, contexts, [])
            ways: dict[str, Callable[[], Awaitable[object]]] = {
                "HTTP/1.1": lambda: asyncio.gather(*[client.open_watch() for _ in range(watches)]),
                "HTTP/2": lambda: client.open_streams(watches),
            }
            for way in list(ways) * rounds:
                before, cpu = await client.memory(), cpu_seconds([server.pid])
                for _ in range(nodes):
                    await ways[way]()
                cpu = cpu_seconds([server.pid]) - cpu
                memory = await client.memory() - before
                client.close()
                print(
                    f"{way}: {memory / nodes / 2**20:.2f} MiB for each node,"
                    f" {cpu / nodes / watches * 1000:.2f} ms to open each watch"
                )


def _tls(server: ApiServer, protocol: str) -> ssl.SSLContext:
    certificate, key = server.authority.issue("watcher", user="watcher", group=ADMINISTRATORS)
    context = ssl.create_default_context(cafile=str(server.authority.certificate))
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols((protocol,))
    return context


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(prog="python -m bench.watch_connections", description=__doc__)
    parser.add_argument("--nodes", type=int, default=60)
    parser.add_argument("--watches", type=int, default=10, help="of each node")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    asyncio.run(measure(options.nodes, options.watches, options.rounds))


if __name__ == "__main__":
    main()
