"""The development vault over real sockets: TLS, redirection, tokens, throttling and faults."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from keyferry.errors import ConnectionFailedError, PlatformError, RequestInvalidError
from keyferry_devvault.client import DevRedirect
from keyferry_devvault.http_types import RequestKind
from keyferry_devvault.request_log import NO_STATUS, RequestLog
from keyferry_devvault.server import serve
from keyferry_devvault.storage.data import DevVaultData
from tests.fakes.devvault import CloseMidResponse, DevVault, Hang, RespondStatus, running_devvault

CLIENT = "aaaaaaaa-0000-4000-8000-000000000001"
SECRET_URL = "https://contoso.vault.azure.net/secrets/db?api-version=7.4"
IMDS_URL = (
    "http://169.254.169.254/metadata/identity/oauth2/token"
    f"?api-version=2018-02-01&resource=https://vault.azure.net&client_id={CLIENT}"
)


class Redirecting(AbstractResolver):
    """Resolves every name to the development vault; host names and SNI stay those of the cloud."""

    def __init__(self, redirect: DevRedirect) -> None:
        self._redirect = redirect

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        address, real = self._redirect.https if port == 443 else self._redirect.http
        return [
            ResolveResult(
                hostname=host, host=address, port=real, family=socket.AF_INET, proto=0, flags=0
            )
        ]

    async def close(self) -> None:
        """Nothing is held."""


@asynccontextmanager
async def client_of(redirect: DevRedirect) -> AsyncIterator[aiohttp.ClientSession]:
    """A client that verifies as strictly as the newest Python does."""
    context = ssl.create_default_context(cafile=redirect.ca_file)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    connector = aiohttp.TCPConnector(ssl=context, resolver=Redirecting(redirect))
    async with aiohttp.ClientSession(connector=connector) as session:
        yield session


@asynccontextmanager
async def contoso(folder: Path) -> AsyncIterator[tuple[DevVault, aiohttp.ClientSession]]:
    """A vault with one secret, and a client whose identity may read it, signed in through IMDS."""
    async with running_devvault(folder) as vault, client_of(vault.redirect) as client:
        vault.add_managed_identity(CLIENT)
        vault.set_secret("contoso", "db", "canary-value")
        vault.grant("contoso", CLIENT, "get")
        # aiohttp does not ask a resolver for an address that needs none.
        address, port = vault.redirect.http
        url = IMDS_URL.replace("169.254.169.254", f"{address}:{port}")
        async with client.get(url, headers={"Metadata": "true"}) as answer:
            token = (await answer.json())["access_token"]
        client.headers["Authorization"] = f"Bearer {token}"
        yield vault, client


async def fetch(client: aiohttp.ClientSession, url: str = SECRET_URL) -> tuple[int, Any]:
    async with client.get(url) as answer:
        return answer.status, await answer.json()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what another task brings about; the time limit of the test bounds it."""
    while not condition():  # noqa: ASYNC110 - the journal is no event
        await asyncio.sleep(0.01)


async def test_a_secret_is_read_under_its_cloud_name_over_strict_tls(tmp_path: Path) -> None:
    """URL, host name and SNI are those of the cloud; only the connection goes to loopback."""
    async with contoso(tmp_path) as (vault, client):
        status, body = await fetch(client)
        assert (200, "canary-value") == (status, body["value"])
        assert body["id"].startswith("https://contoso.vault.azure.net/secrets/db/")
        (imds, read) = vault.requests
        assert (RequestKind.IMDS, 200, CLIENT) == (imds.kind, imds.status, imds.principal)
        assert (RequestKind.SECRET, 200, CLIENT) == (read.kind, read.status, read.principal)


async def test_a_vault_of_another_cloud_does_not_take_the_token(tmp_path: Path) -> None:
    """The audience of the token is another one."""
    async with contoso(tmp_path) as (_, client):
        status, body = await fetch(client, SECRET_URL.replace("vault.azure.net", "vault.azure.cn"))
        assert (401, "Unauthorized") == (status, body["error"]["code"])


async def test_changes_take_effect_while_it_runs(tmp_path: Path) -> None:
    """A second process may set, disable and revoke at any time."""
    async with contoso(tmp_path) as (vault, client):
        vault.set_secret("contoso", "db", "new")
        assert "new" == (await fetch(client))[1]["value"]
        vault.disable("contoso", "db")
        assert "SecretDisabled" == (await fetch(client))[1]["error"]["innererror"]["code"]
        vault.enable("contoso", "db")
        vault.revoke("contoso", CLIENT)
        assert "AccessDenied" == (await fetch(client))[1]["error"]["innererror"]["code"]


async def test_throttling_answers_429_and_says_how_long_to_wait(tmp_path: Path) -> None:
    """A limit of none in a second throttles every request; other hosts are not concerned."""
    async with contoso(tmp_path) as (vault, client):
        vault.tune(throttle_per_second=0, retry_after_seconds=7)
        async with client.get(SECRET_URL) as answer:
            assert (429, "7") == (answer.status, answer.headers["Retry-After"])
            assert "Throttled" == (await answer.json())["error"]["code"]
        vault.tune()
        assert 200 == (await fetch(client))[0]


async def test_latency_delays_each_request_but_not_the_others(tmp_path: Path) -> None:
    """Requests wait side by side, so all of them are in flight at once."""
    async with contoso(tmp_path) as (vault, client):
        vault.tune(latency_seconds=0.2)
        answers = await asyncio.gather(*(fetch(client) for _ in range(10)))
        assert [200] * 10 == [status for status, _ in answers]
        assert 10 == vault.request_log.peak_in_flight


async def test_a_status_fault_happens_as_often_as_asked(tmp_path: Path) -> None:
    """Then the vault answers again."""
    async with contoso(tmp_path) as (vault, client):
        vault.add_fault("/secrets", RespondStatus(503, retry_after=2), times=2)
        answers = [await fetch(client) for _ in range(3)]
        assert [503, 503, 200] == [status for status, _ in answers]
        assert 2 == vault.count(RequestKind.SECRET, status=503)


async def test_a_connection_can_be_dropped_half_way(tmp_path: Path) -> None:
    """The headers promise more than comes; the next request is answered."""
    async with contoso(tmp_path) as (vault, client):
        vault.add_fault("contoso.vault.azure.net", CloseMidResponse())
        with pytest.raises(aiohttp.ClientPayloadError):
            await fetch(client)
        assert 200 == (await fetch(client))[0]
        assert [NO_STATUS, 200] == [record.status for record in vault.requests[1:]]


async def test_a_request_can_hang_until_the_client_gives_up(tmp_path: Path) -> None:
    """Only that request hangs, and it is recorded when the client disconnects."""
    async with contoso(tmp_path) as (vault, client):
        vault.add_fault("contoso.vault.azure.net", Hang())
        hanging = asyncio.create_task(fetch(client))
        await until(lambda: vault.request_log.in_flight == 1)
        assert 200 == (await fetch(client))[0]
        hanging.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hanging
        await until(lambda: vault.request_log.in_flight == 0)
        assert 1 == vault.count(status=NO_STATUS)


async def test_a_hanging_request_does_not_keep_the_vault_from_stopping(tmp_path: Path) -> None:
    """The client sees the connection end."""
    async with AsyncExitStack() as clients:
        async with running_devvault(tmp_path) as vault:
            client = await clients.enter_async_context(client_of(vault.redirect))
            vault.add_fault("/", Hang())
            hanging = asyncio.create_task(fetch(client))
            await until(lambda: vault.request_log.in_flight == 1)
        with pytest.raises(aiohttp.ClientError):
            await hanging


async def test_a_host_that_is_not_played_is_explained(tmp_path: Path) -> None:
    """Somebody may well try the port with a browser."""
    async with contoso(tmp_path) as (_, client):
        status, body = await fetch(client, "https://localhost/")
        assert (404, "HostNotFound") == (status, body["error"]["code"])
        assert "curl --connect-to" in body["error"]["message"]


async def test_a_folder_is_served_once(tmp_path: Path) -> None:
    """The second server is refused; the first one is not disturbed."""
    async with contoso(tmp_path) as (vault, client):
        with pytest.raises(PlatformError, match="already running"):
            async with serve(vault.data, request_log=RequestLog()):
                pass
        assert 200 == (await fetch(client))[0]
        assert vault.redirect == DevRedirect.read(vault.data.folder)
    with pytest.raises(ConnectionFailedError, match=r"is not running\. Start it with: keyferry"):
        DevRedirect.read(tmp_path / "devvault")


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "10.0.0.1", "localhost", ""])
async def test_it_listens_on_loopback_only(tmp_path: Path, address: str) -> None:
    """Names are refused too: somebody else decides what they mean."""
    with DevVaultData(tmp_path) as dev, pytest.raises(RequestInvalidError, match="loopback only"):
        async with serve(dev, request_log=RequestLog(), listen=(address, 0)):
            pass


async def test_a_port_that_is_taken_is_explained(tmp_path: Path) -> None:
    """The message names it and says what to do."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with DevVaultData(tmp_path) as dev, pytest.raises(PlatformError, match="cannot listen on"):
            async with serve(dev, request_log=RequestLog(), listen=taken.getsockname()):
                pass


async def test_no_record_holds_a_value_or_a_token(tmp_path: Path) -> None:
    """Neither when a request is answered nor when it is refused."""
    async with contoso(tmp_path) as (vault, client):
        await fetch(client)
        await fetch(client, SECRET_URL.replace("contoso", "nowhere"))
        token = client.headers["Authorization"].removeprefix("Bearer ")
        log = "\n".join(record.format_line() for record in vault.requests)
        assert "contoso.vault.azure.net /secrets/db 200" in log
        assert not any(text in log for text in ("canary", token, token.split(".")[2]))


@pytest.mark.parametrize("action", [RespondStatus(503), CloseMidResponse()])
async def test_an_injected_fault_is_logged_with_the_command_that_removes_it(
    tmp_path: Path, action: RespondStatus | CloseMidResponse
) -> None:
    async with contoso(tmp_path) as (vault, client):
        vault.add_fault("contoso.vault.azure.net", action)
        with suppress(aiohttp.ClientError):
            await fetch(client)
    note = vault.requests[-1].note
    assert f"keyferry devvault tune --clear --data {tmp_path / 'devvault'}" in note
