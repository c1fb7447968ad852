"""The redirection to a development vault: connections go there, names stay those of the cloud."""

from __future__ import annotations

from pathlib import Path

import pytest
from yarl import URL

from keyferry.errors import PlatformError
from keyferry.net.proxies import Proxies
from keyferry_devvault.client import DevRedirect
from tests.integration.https.certificates import tls_for
from tests.integration.https.serving import CLOUD_URL, Document, client, get, ok, serving


async def test_redirect_changes_only_the_connection(tmp_path: Path) -> None:
    """Host header and SNI stay those of the cloud; its certificate is checked against its name."""
    tls = tls_for(tmp_path)
    async with serving(ok, tls=tls.context) as server:
        dev = DevRedirect(server.address, server.address, tls.ca_file)
        async with client(dev.emulator().https) as made:
            assert await get(made, CLOUD_URL) == Document("fine")
        assert server.requests == [("contoso.vault.azure.net", "Bearer t")]
        assert server.server_names == ["contoso.vault.azure.net"]


async def test_http_and_https_are_redirected_to_their_own_ports(tmp_path: Path) -> None:
    """IMDS is plain HTTP at an IP address, on whatever port the URL says."""
    tls = tls_for(tmp_path)
    async with serving(ok, tls=tls.context) as secure, serving(ok) as open_server:
        dev = DevRedirect(secure.address, open_server.address, tls.ca_file)
        async with client(dev.emulator().https) as made:
            await get(made, CLOUD_URL)
            await get(made, CLOUD_URL.with_port(8443))
            await get(made, URL("http://169.254.169.254/metadata"))
            await get(made, URL("http://169.254.169.254:2579/host"))
        assert [host for host, _ in secure.requests] == [
            "contoso.vault.azure.net",
            "contoso.vault.azure.net:8443",
        ]
        assert [host for host, _ in open_server.requests] == [
            "169.254.169.254",
            "169.254.169.254:2579",
        ]


async def test_connections_to_the_emulator_use_no_proxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is meant for loopback must not leave the machine."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    tls = tls_for(tmp_path)
    async with serving(ok, tls=tls.context) as server:
        dev = DevRedirect(server.address, server.address, tls.ca_file)
        assert dev.emulator().https.proxies == Proxies()
        async with client(dev.emulator().https) as made:
            assert await get(made, CLOUD_URL) == Document("fine")


async def test_missing_ca_of_the_development_vault_is_reported(tmp_path: Path) -> None:
    """Before any connection."""
    dev = DevRedirect(("127.0.0.1", 1), ("127.0.0.1", 1), tmp_path / "ca.pem")
    with pytest.raises(PlatformError, match="the CA of the development vault cannot be read"):
        dev.emulator()
