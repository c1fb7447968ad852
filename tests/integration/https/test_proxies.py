"""Proxies on the way to a vault."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiohttp import web
from yarl import URL

from keyferry.errors import Stage
from keyferry.net.http_client import HttpsSettings
from keyferry.net.proxies import Proxies
from tests.integration.https.serving import (
    CANARY,
    CLOUD_URL,
    Document,
    client,
    failure,
    get,
    ok,
    serving,
    status,
)


async def test_unreachable_proxy_is_named() -> None:
    """Without a redirect the proxies apply, and the remedy names their variables."""
    async with serving(ok) as server:
        host, port = server.address
    proxies = Proxies(https=f"http://user:{CANARY}@{host}:{port}")
    async with client(HttpsSettings(proxies=proxies)) as made:
        error = await failure(made, CLOUD_URL)
    assert error.stage is Stage.CONNECT
    assert "the proxy 127.0.0.1 could not be reached" in error.problem
    assert "HTTPS_PROXY" in error.remedy


async def test_proxy_error_is_distinguished_from_a_vault_error() -> None:
    """407 and the like come from the proxy, not from the vault."""
    async with serving(status(407)) as server:
        proxies = Proxies(https="http://{}:{}".format(*server.address))
        async with client(HttpsSettings(proxies=proxies)) as made:
            error = await failure(made, CLOUD_URL)
    assert error.stage is Stage.CONNECT
    expected = "the proxy refused to connect to contoso.vault.azure.net (status 407)"
    assert expected in error.problem


async def test_proxy_gets_the_request_and_its_password() -> None:
    """And the vault's own credential stays what it was."""
    seen: list[tuple[str, str, str]] = []

    async def proxy(request: web.BaseRequest) -> web.Response:
        headers = request.headers
        seen.append((request.raw_path, headers["Proxy-Authorization"], headers["Authorization"]))
        return await ok(request)

    async with serving(proxy) as server:
        address = "{}:{}".format(*server.address)
        proxies = Proxies(http=f"http://user:pass@{address}", bypassed=("near.example",))
        async with client(HttpsSettings(proxies=proxies)) as made:
            assert await get(made, URL("http://far.example/x")) == Document("fine")
    assert [("http://far.example/x", "Basic dXNlcjpwYXNz", "Bearer t")] == seen


async def test_environment_and_netrc_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request goes where the settings say, as whom the caller says, and reads no file for it."""
    netrc = tmp_path / "netrc"
    netrc.write_text(f"default login user password {CANARY}\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    async with serving(ok) as server, client() as made, asyncio.timeout(100):
        async with made.https.pool.request("GET", server.url) as answer:
            assert 200 == answer.status
        assert [("{}:{}".format(*server.address), "")] == server.requests
