"""Addresses that a SecretProviderClass or a vault names: the node itself, and redirects to it."""

from __future__ import annotations

import asyncio
import base64
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.e2e.node import Volume
from tests.e2e.tenants.arena import VICTIM_VALUE, Arena
from tests.e2e.vault.classes import entry

RESTRICTED = "--allow-local-addresses=false"


class Internal:
    """A service of the node that no tenant may reach.

    Attributes:
        port: its port on loopback, for IPv4 and IPv6.
        requests: the request lines and the bodies that it received.
    """

    def __init__(self) -> None:
        self.port = 0
        self.requests: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request with credentials."""
        self.requests.append(await reader.read(4096))
        body = b'{"data": {"value": "ROLE-OF-THE-NODE"}, "value": "ROLE-OF-THE-NODE"}'
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        writer.write(head % len(body) + body)
        await writer.drain()
        writer.close()


@asynccontextmanager
async def internal_service() -> AsyncIterator[Internal]:
    """Run the service on all addresses of the node."""
    internal = Internal()
    listening = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    internal.port = listening.getsockname()[1]
    server = await asyncio.start_server(internal.serve, sock=listening)
    try:
        yield internal
    finally:
        server.close()
        await server.wait_closed()


def own_address() -> str:
    """Return an address of this machine that is not a loopback address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.254", 9))  # sends nothing
        return str(probe.getsockname()[0])


def victim_of_default_address(arena: Arena) -> None:
    """Let the victim use the address that the administrator configured."""
    arena.victim.put_class(
        "honest", entry("db", f"value/{VICTIM_VALUE}", "value"), parameters={"vaultAddress": ""}
    )


async def test_local_addresses_of_a_class_are_not_reached(arena: Arena) -> None:
    """Whatever their spelling; the address from the flag is reached."""
    victim_of_default_address(arena)
    async with internal_service() as internal:
        hosts = [
            "127.0.0.1",
            "localhost",
            "LOCALHOST.",
            "127.1",
            "2130706433",
            "0x7f000001",
            "0177.0.0.1",
            "0.0.0.0",
            "0",
            "127.255.255.254",
            "[::1]",
            "[::]",
            "[::ffff:127.0.0.1]",
            "[0:0:0:0:0:ffff:7f00:1]",
            "[64:ff9b::7f00:1]",
            socket.gethostname(),
            own_address(),
            f"[::ffff:{own_address()}]",
        ]
        results = []
        async with arena.attack(RESTRICTED, f"--openbao-addr={arena.victim.address}"):
            for number, host in enumerate(hosts):
                arena.attacker.put_class(
                    f"local-{number}",
                    entry("a", "value/a", "value"),
                    entry("b", "exec/b", method="POST", secretArgs={"cmd": "id"}),
                    parameters={"vaultAddress": f"http://{host}:{internal.port}"},
                )
                results.append(await arena.publish(arena.attacker.pod(f"local-{number}")))
    assert [] == internal.requests
    assert "" not in results


async def test_link_local_and_metadata_addresses_are_refused_at_once(arena: Arena) -> None:
    """169.254.169.254 and its relatives, without a connection that has to time out."""
    victim_of_default_address(arena)
    hosts = ["169.254.169.254", "[fe80::1]", "[fd00:ec2::254]", "224.0.0.1", "255.255.255.255"]
    hosts += ["[::ffff:169.254.169.254]", "[ff02::1]", "100.100.100.200"]
    async with arena.attack(RESTRICTED, f"--openbao-addr={arena.victim.address}"):
        for number, host in enumerate(hosts):
            arena.attacker.put_class(
                f"metadata-{number}",
                entry("a", "latest/meta-data", "value"),
                parameters={"vaultAddress": f"http://{host}"},
            )
        pods = [arena.attacker.pod(f"metadata-{number}") for number in range(len(hosts))]
        # Less than the time limit of a connection.
        results = [await arena.publish(pod, seconds=4.5) for pod in pods]
    assert not [host for host, text in zip(hosts, results, strict=True) if "no answer" in text]
    assert "" not in results


@pytest.mark.parametrize("method", ["GET", "POST", "LIST"])
async def test_redirect_to_a_local_service_is_not_followed(arena: Arena, method: str) -> None:
    """Also if the redirecting server itself is on the list of permitted addresses."""
    async with internal_service() as internal:
        targets = [
            f"http://127.0.0.1:{internal.port}/latest/meta-data/iam/security-credentials/node",
            f"http://localhost:{internal.port}/v1/value",
            f"http://[::1]:{internal.port}/",
            f"//127.0.0.1:{internal.port}/v1/x",
            f"http://{own_address()}:{internal.port}/",
            "http://169.254.169.254/latest/meta-data/",
            "file:///etc/shadow",
            "unix:///var/run/docker.sock",
        ]
        allowed = ",".join(
            address.removeprefix("http://")
            for address in (arena.attacker.address, arena.victim.address)
        )
        results = []
        async with arena.attack(RESTRICTED, f"--allowed-vault-addresses={allowed}"):
            for number, target in enumerate(targets):
                encoded = base64.urlsafe_b64encode(target.encode()).decode().rstrip("=")
                body: dict[str, object] = {} if method == "GET" else {"secretArgs": {"cmd": "id"}}
                arena.attacker.put_class(
                    f"to-{number}", {**entry("a", f"redirect/{encoded}"), "method": method, **body}
                )
                volume: Volume = arena.attacker.pod(f"to-{number}")
                results.append(await arena.publish(volume))
    assert [] == internal.requests
    assert "" not in results
