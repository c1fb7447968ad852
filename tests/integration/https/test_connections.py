"""keyferry.net.http_client: connections are opened, reused and fail."""

from __future__ import annotations

import ssl
from functools import partial
from pathlib import Path
from typing import Any

from yarl import URL

from keyferry.errors import ConnectionFailedError, Stage
from keyferry.net.connector import TLS_READ_BYTES, new_connector
from keyferry.net.http_client import HttpsClient, HttpsSettings
from keyferry_devvault.client import DevRedirect
from tests.integration.https.certificates import tls_for
from tests.integration.https.serving import CLOUD_URL, client, failure, get, ok, serving


async def test_refused_connection_names_host_and_port() -> None:
    """No process listens on the port."""
    async with serving(ok) as server:
        url = server.url
    async with client() as made:
        error = await failure(made, url)
    assert (type(error), error.stage) == (ConnectionFailedError, Stage.CONNECT)
    assert "127.0.0.1 could not be reached" in error.problem
    assert error.__cause__ is not None


async def test_unresolvable_host_is_a_dns_failure() -> None:
    """`.invalid` never resolves."""
    async with client() as made:
        error = await failure(made, URL("https://contoso.vault.invalid/x"))
    assert (type(error), error.stage) == (ConnectionFailedError, Stage.DNS)
    assert "the host name contoso.vault.invalid could not be resolved" in error.problem
    assert "getent hosts contoso.vault.invalid" in error.remedy


async def test_connection_has_a_small_read_buffer(tmp_path: Path) -> None:
    """A node that starts has many connections at once, and an answer fills a record or two."""
    tls = tls_for(tmp_path)
    async with serving(ok, tls=tls.context) as server:
        trust = ssl.create_default_context(cafile=tls.ca_file)
        trust.check_hostname = False
        https = HttpsClient(HttpsSettings(connector=partial(new_connector, tls=trust)))
        try:
            url = server.url.with_scheme("https")
            async with https.pool.request("GET", url):
                pass
            connections: Any = https._connections
            (host,) = connections._hosts.values()
            ((idle,),) = host.connector._conns.values()
            protocol = idle[0].transport._ssl_protocol
            assert TLS_READ_BYTES == len(protocol._ssl_buffer)
        finally:
            await https.close()


async def test_connections_are_reused(tmp_path: Path) -> None:
    """A second request to a host needs no handshake."""
    tls = tls_for(tmp_path)
    async with serving(ok, tls=tls.context) as server:
        dev = DevRedirect(server.address, server.address, tls.ca_file)
        async with client(dev.emulator().https) as made:
            await get(made, CLOUD_URL)
            await get(made, CLOUD_URL)
        assert len(server.server_names) == 1
