"""One connection as a request would open it, to look at what is on the way."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from keyferry.net.connection_errors import CertificateFault
from keyferry.net.inspection.connecting import InspectionTarget, inspect
from keyferry.net.inspection.observed import Inspection
from tests.fakes.vault_certificates import VaultCertificates


@dataclass
class Front:
    """A port that ends some connections before TLS, and passes the others on."""

    port: int
    ended: range
    connections: int = 0


@asynccontextmanager
async def running_front(folder: Path, ended: range) -> AsyncIterator[Front]:
    """Serve TLS for test.domain.com, with connections of the numbers in `ended` cut."""
    context = VaultCertificates(folder).context()
    front = Front(0, ended)

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        front.connections += 1
        try:
            if front.connections not in front.ended:
                await writer.start_tls(context)
                await reader.read()
        except OSError:  # the client refuses the certificate
            pass
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    front.port = server.sockets[0].getsockname()[1]
    async with server:
        yield front


async def look(front: Front) -> Inspection:
    url = URL(f"https://127.0.0.1:{front.port}")
    async with aiohttp.ClientSession() as session:
        tls = ssl.create_default_context()
        return await inspect(InspectionTarget(url, "vault", tls=tls), session, None)


@pytest.mark.parametrize("ended", [range(0), range(2, 3), range(2, 4)])
async def test_a_refused_certificate_is_looked_at_again(tmp_path: Path, ended: range) -> None:
    """OpenSSL can report the refusal of one connection for the next one of the same thread."""
    async with running_front(tmp_path, ended) as front:
        seen = await look(front)
    assert seen.problem is not None
    assert seen.problem.certificate_fault is not None
    assert seen.certificate
    assert 2 + len(ended) == front.connections


async def test_a_certificate_that_cannot_be_seen_leaves_the_problem(tmp_path: Path) -> None:
    """The refusal is reported without the certificate."""
    async with running_front(tmp_path, range(2, 100)) as front:
        seen = await look(front)
    assert seen.problem is not None
    assert isinstance(seen.problem.certificate_fault, CertificateFault)
    assert not seen.certificate
    assert 4 == front.connections
