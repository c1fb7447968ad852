"""keyferry.https against servers on loopback: what arrives, what is tried again, what is said."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from yarl import URL

from keyferry.answers import Refusal
from keyferry.connector import TLS_READ_BYTES
from keyferry.economy.hub import Economy
from keyferry.errors import (
    ConnectionFailedError,
    Hop,
    KeyferryError,
    PlatformError,
    VaultError,
    VaultThrottledError,
)
from keyferry.https import MAX_ANSWER_BYTES, DevRedirect, HttpsClient, HttpsSettings
from keyferry.proxies import Proxies
from keyferry.retry import TryFailed
from tests.fakes.clock import WALL_START, StillClock
from tests.fakes.economy import forgetful

CLOUD_URL = URL("https://contoso.vault.azure.net/secrets/x")
CANARY = "canary-3b1d"


class Document(msgspec.Struct):
    value: str


Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


async def ok(request: web.BaseRequest) -> web.Response:
    """The answer that is asked for."""
    return web.json_response({"value": "fine"})


def status(code: int, **headers: str) -> Handler:
    """A handler that answers with a status."""

    async def handler(request: web.BaseRequest) -> web.Response:
        return web.json_response(
            {"error": {"code": "Code", "message": CANARY}}, status=code, headers=headers
        )

    return handler


async def half(request: web.BaseRequest) -> web.StreamResponse:
    """Half an answer, then nothing."""
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b'{"value": "canary-3b1d')
    assert request.transport is not None
    request.transport.close()
    return response


async def hang(request: web.BaseRequest) -> web.Response:
    """No answer before the client is gone."""
    await asyncio.sleep(60)
    return web.Response()


@dataclass
class Server:
    """What a loopback server was asked.

    Attributes:
        address: where it listens.
        requests: the `Host` and `Authorization` headers of each request.
        server_names: the names asked for by SNI.
    """

    address: tuple[str, int] = ("", 0)
    requests: list[tuple[str, str]] = field(default_factory=list)
    server_names: list[str | None] = field(default_factory=list)

    @property
    def url(self) -> URL:
        return URL(f"http://{self.address[0]}:{self.address[1]}/x")


@asynccontextmanager
async def serving(*handlers: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    """A server that answers the first request by the first handler; the last one stays."""
    server = Server()

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        server.requests.append((request.host, request.headers.get("Authorization", "")))
        return await handlers[min(len(server.requests), len(handlers)) - 1](request)

    if tls is not None:
        tls.sni_callback = lambda _socket, name, _context: server.server_names.append(name)
    runner = web.ServerRunner(web.Server(answer, handler_cancellation=True), shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        server.address = runner.addresses[0][:2]
        yield server
    finally:
        await runner.cleanup()


@dataclass(frozen=True)
class Client:
    """Connections, and who decides about further tries."""

    https: HttpsClient
    economy: Economy


@asynccontextmanager
async def client(
    settings: HttpsSettings | None = None, clock: StillClock | None = None
) -> AsyncIterator[Client]:
    """A client that pauses in no time."""
    still = clock or StillClock()
    https = HttpsClient(settings or HttpsSettings(), wall=still.epoch)
    try:
        yield Client(https, forgetful(still))
    finally:
        await https.close()


async def get(made: Client, url: URL) -> Document | Refusal:
    """Read the document at `url`."""

    async def attempt(seconds: float) -> Document | Refusal | TryFailed:
        return await made.https.get_json(
            url,
            headers={"Authorization": "Bearer t"},
            document=Document,
            purpose="read secret x",
            seconds=seconds,
        )

    return await made.economy.errand(url.host or "").run(attempt)


async def failure(made: Client, url: URL) -> KeyferryError:
    """The error that reading ends with; nothing of an answer is in it."""
    with pytest.raises(KeyferryError) as caught:
        await get(made, url)
    assert CANARY not in str(caught.value)
    assert caught.value.problem.startswith("failed to read secret x: ")
    return caught.value


async def test_an_answer_is_parsed() -> None:
    """The headers arrive, the document comes back."""
    async with serving(ok) as server, client() as made:
        assert await get(made, server.url) == Document("fine")
        assert [header for _, header in server.requests] == ["Bearer t"]


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504])
async def test_a_status_that_means_later_is_tried_again(code: int) -> None:
    """One failure and then success is a success."""
    clock = StillClock()
    async with serving(status(code), ok) as server, client(clock=clock) as made:
        assert await get(made, server.url) == Document("fine")
    assert clock.pauses == [0.8]


async def test_the_pause_that_the_server_asks_for_is_made() -> None:
    """Seconds, a date, milliseconds."""
    clock = StillClock()
    date = datetime.fromtimestamp(WALL_START + 3 + 20, UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
    handlers = (
        status(429, **{"Retry-After": "3"}),
        status(429, **{"Retry-After": date}),
        status(503, **{"x-ms-retry-after-ms": "1500"}),
        ok,
    )
    async with serving(*handlers) as server, client(clock=clock) as made:
        assert await get(made, server.url) == Document("fine")
    assert clock.pauses == [3.0, 20.0, 1.5]


async def test_a_pause_longer_than_the_time_limit_ends_the_request_at_once() -> None:
    """The error says how long the vault asked to wait."""
    clock = StillClock()
    throttled = status(429, **{"Retry-After": "600"})
    async with serving(throttled) as server, client(clock=clock) as made:
        error = await failure(made, server.url)
    assert isinstance(error, VaultThrottledError)
    assert error.retry_after == 600.0
    assert "asks to wait 600 s" in error.problem
    assert (clock.pauses, len(server.requests)) == ([], 1)


async def test_four_tries_are_the_limit() -> None:
    """The message counts them."""
    clock = StillClock()
    async with serving(status(500)) as server, client(clock=clock) as made:
        error = await failure(made, server.url)
    assert isinstance(error, VaultError)
    assert error.problem.endswith("127.0.0.1 failed with status 500 (4 tries)")
    assert clock.pauses == [0.8, 1.6, 3.2]
    assert len(server.requests) == 4


@pytest.mark.parametrize("code", [301, 400, 401, 403, 404])
async def test_a_status_that_means_no_is_handed_back(code: int) -> None:
    """With its codes and its challenge; redirects are not followed."""
    headers = {"WWW-Authenticate": "Bearer x", "Location": "https://elsewhere.test/"}
    async with serving(status(code, **headers)) as server, client() as made:
        assert await get(made, server.url) == Refusal(code, ("Code",), "Bearer x")
        assert len(server.requests) == 1


async def test_half_an_answer_is_tried_again() -> None:
    """A connection closed half way says nothing about the object."""
    async with serving(half, ok) as server, client() as made:
        assert await get(made, server.url) == Document("fine")


async def test_half_an_answer_to_the_last_is_a_failed_connection() -> None:
    """The host is named; what came is not."""
    async with serving(half) as server, client() as made:
        error = await failure(made, server.url)
    assert (type(error), error.hop) == (ConnectionFailedError, Hop.CONNECT)
    assert "closed the connection before its answer was whole" in error.problem


async def test_no_answer_in_time_is_a_failed_connection() -> None:
    """Each try has its own limit."""
    settings = HttpsSettings(try_timeout=0.05)
    async with serving(hang) as server, client(settings) as made:
        error = await failure(made, server.url)
    assert (type(error), error.hop) == (ConnectionFailedError, Hop.CONNECT)
    assert "127.0.0.1 did not answer in time (4 tries)" in error.problem


async def test_an_answer_that_does_not_end_is_cut() -> None:
    """More than a vault ever sends."""

    async def endless(request: web.BaseRequest) -> web.Response:
        return web.Response(body=b"x" * (MAX_ANSWER_BYTES + 1))

    async with serving(endless) as server, client() as made:
        error = await failure(made, server.url)
    assert f"sends more than {MAX_ANSWER_BYTES} bytes" in error.problem


async def test_an_answer_that_is_no_json_is_an_error_without_its_text() -> None:
    """A proxy's page, for example."""

    async def page(request: web.BaseRequest) -> web.Response:
        return web.Response(text=CANARY)

    async with serving(page) as server, client() as made:
        error = await failure(made, server.url)
    assert "is not the JSON of the vault's API" in error.problem


async def test_a_closed_port_is_named_with_the_host() -> None:
    """Nobody listens there."""
    async with serving(ok) as server:
        url = server.url
    async with client() as made:
        error = await failure(made, url)
    assert (type(error), error.hop) == (ConnectionFailedError, Hop.CONNECT)
    assert "127.0.0.1 could not be reached" in error.problem
    assert error.__cause__ is not None


async def test_a_name_that_does_not_resolve_is_a_dns_failure() -> None:
    """`.invalid` never resolves."""
    async with client() as made:
        error = await failure(made, URL("https://contoso.vault.invalid/x"))
    assert (type(error), error.hop) == (ConnectionFailedError, Hop.DNS)
    assert "the host name contoso.vault.invalid could not be resolved" in error.problem
    assert "getent hosts contoso.vault.invalid" in error.remedy


# --- TLS and the redirection to a development vault ------------------------------------------


@dataclass(frozen=True)
class Authority:
    """A CA of the test."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def make(cls) -> Authority:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test CA")])
        now = datetime.now(UTC)
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        usage = x509.KeyUsage(
            digital_signature=False,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=True,
            crl_sign=True,
            encipher_only=False,
            decipher_only=False,
        )
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=2))
            .not_valid_after(now + timedelta(days=2))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(identifier, critical=False)
            .add_extension(usage, critical=True)
            .sign(key, hashes.SHA256())
        )
        return cls(key, certificate)

    def server_context(self, folder: Path, host: str, *, until: timedelta) -> ssl.SSLContext:
        """The context of a server for `host` whose certificate is valid until now + `until`."""
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        issuer = self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        identifier = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer.value)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self.certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + until)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=True)
            .add_extension(identifier, critical=False)
            .sign(self.key, hashes.SHA256())
        )
        path = folder / "server.pem"
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context


@dataclass(frozen=True)
class Tls:
    """A way to serve a host and a way to trust it."""

    context: ssl.SSLContext
    ca_file: Path


def tls_for(
    folder: Path, host: str = "*.vault.azure.net", until: timedelta = timedelta(days=1)
) -> Tls:
    """A server certificate and the CA that issued it."""
    authority = Authority.make()
    ca_file = folder / "ca.pem"
    ca_file.write_bytes(authority.certificate.public_bytes(serialization.Encoding.PEM))
    return Tls(authority.server_context(folder, host, until=until), ca_file)


async def test_a_redirect_changes_the_connection_and_nothing_else(tmp_path: Path) -> None:
    """Host header and SNI stay those of the cloud; its certificate is checked against its name."""
    tls = tls_for(tmp_path)
    async with serving(ok, tls=tls.context) as server:
        dev = DevRedirect(server.address, server.address, tls.ca_file)
        async with client(HttpsSettings(dev=dev)) as made:
            assert await get(made, CLOUD_URL) == Document("fine")
        assert server.requests == [("contoso.vault.azure.net", "Bearer t")]
        assert server.server_names == ["contoso.vault.azure.net"]


async def test_http_and_https_are_redirected_to_their_own_ports(tmp_path: Path) -> None:
    """IMDS is plain HTTP at an IP address, on whatever port the URL says."""
    tls = tls_for(tmp_path)
    async with serving(ok, tls=tls.context) as secure, serving(ok) as open_server:
        dev = DevRedirect(secure.address, open_server.address, tls.ca_file)
        async with client(HttpsSettings(dev=dev)) as made:
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


async def test_a_redirect_ignores_proxies(tmp_path: Path) -> None:
    """What is meant for loopback must not leave the machine."""
    tls = tls_for(tmp_path)
    async with serving(ok, tls=tls.context) as server:
        dev = DevRedirect(server.address, server.address, tls.ca_file)
        proxies = Proxies(https="http://127.0.0.1:9")
        async with client(HttpsSettings(dev=dev, proxies=proxies)) as made:
            assert await get(made, CLOUD_URL) == Document("fine")


async def test_a_proxy_that_is_not_there_is_named() -> None:
    """Without a redirection proxies count, and the variables that name them must be mended."""
    async with serving(ok) as server:
        host, port = server.address
    proxies = Proxies(https=f"http://user:{CANARY}@{host}:{port}")
    async with client(HttpsSettings(proxies=proxies)) as made:
        error = await failure(made, CLOUD_URL)
    assert error.hop is Hop.CONNECT
    assert "the proxy 127.0.0.1 could not be reached" in error.problem
    assert "HTTPS_PROXY" in error.remedy


async def test_a_proxy_that_refuses_is_told_apart() -> None:
    """407 and the like come from the proxy, not from the vault."""
    async with serving(status(407)) as server:
        proxies = Proxies(https="http://{}:{}".format(*server.address))
        async with client(HttpsSettings(proxies=proxies)) as made:
            error = await failure(made, CLOUD_URL)
    assert error.hop is Hop.CONNECT
    expected = "the proxy refused to connect to contoso.vault.azure.net (status 407)"
    assert expected in error.problem


async def test_a_proxy_gets_the_request_and_its_password() -> None:
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


async def test_the_environment_and_netrc_are_not_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request goes where the settings say, as whom the caller says, and reads no file for it."""
    netrc = tmp_path / "netrc"
    netrc.write_text(f"default login user password {CANARY}\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    async with serving(ok) as server, client() as made, asyncio.timeout(10):
        async with made.https.session(server.url).get(server.url) as answer:
            assert 200 == answer.status
        assert [("{}:{}".format(*server.address), "")] == server.requests


@pytest.mark.parametrize(
    ("host", "days", "reason"),
    [
        ("*.vault.azure.net", -0.5, "it has expired"),
        ("*.vault.azure.cn", 1, "it was issued for another name"),
    ],
)
async def test_a_certificate_that_does_not_fit_is_a_tls_failure_with_the_reason(
    tmp_path: Path, host: str, days: float, reason: str
) -> None:
    """Once, because another try would meet the same certificate."""
    tls = tls_for(tmp_path, host, timedelta(days=days))
    async with serving(ok, tls=tls.context) as server:
        dev = DevRedirect(server.address, server.address, tls.ca_file)
        async with client(HttpsSettings(dev=dev)) as made:
            error = await failure(made, CLOUD_URL)
        assert server.requests == []
    assert (type(error), error.hop) == (ConnectionFailedError, Hop.TLS)
    expected = f"the TLS certificate of contoso.vault.azure.net is not accepted: {reason}"
    assert error.problem.endswith(expected)


async def test_an_issuer_that_is_not_trusted_is_a_tls_failure(tmp_path: Path) -> None:
    """Only the CA of the development vault is trusted, and no other."""
    tls = tls_for(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    trusted = tls_for(other).ca_file
    async with serving(ok, tls=tls.context) as server:
        dev = DevRedirect(server.address, server.address, trusted)
        async with client(HttpsSettings(dev=dev)) as made:
            error = await failure(made, CLOUD_URL)
    assert error.hop is Hop.TLS
    assert "is not accepted: " in error.problem
    assert "SSL_CERT_FILE" in error.remedy


async def test_a_server_without_tls_is_a_tls_failure(tmp_path: Path) -> None:
    """A plain HTTP server at an https URL."""
    tls = tls_for(tmp_path)
    async with serving(ok) as server:
        dev = DevRedirect(server.address, server.address, tls.ca_file)
        async with client(HttpsSettings(dev=dev)) as made:
            error = await failure(made, CLOUD_URL)
    assert error.hop is Hop.TLS
    assert "TLS with contoso.vault.azure.net could not be agreed on" in error.problem


async def test_a_missing_ca_of_the_development_vault_is_said_so(tmp_path: Path) -> None:
    """Before any connection."""
    dev = DevRedirect(("127.0.0.1", 1), ("127.0.0.1", 1), tmp_path / "ca.pem")
    async with client(HttpsSettings(dev=dev)) as made:
        with pytest.raises(PlatformError, match="the CA of the development vault cannot be read"):
            await get(made, CLOUD_URL)


async def test_a_connection_reads_into_little_memory(tmp_path: Path) -> None:
    """A node that starts has many connections at once, and an answer fills a record or two."""
    tls = tls_for(tmp_path)
    async with serving(ok, tls=tls.context) as server:
        dev = DevRedirect(server.address, server.address, tls.ca_file)
        https = HttpsClient(HttpsSettings(dev=dev))
        try:
            async with https.session(CLOUD_URL).get(CLOUD_URL):
                pass
            pool: Any = https.session(CLOUD_URL).connector
            ((idle,),) = pool._conns.values()
            protocol = idle[0].transport._ssl_protocol
            assert TLS_READ_BYTES == len(protocol._ssl_buffer)
        finally:
            await https.close()


async def test_connections_are_used_again(tmp_path: Path) -> None:
    """A second request to a host pays no second handshake."""
    tls = tls_for(tmp_path)
    async with serving(ok, tls=tls.context) as server:
        dev = DevRedirect(server.address, server.address, tls.ca_file)
        async with client(HttpsSettings(dev=dev)) as made:
            await get(made, CLOUD_URL)
            await get(made, CLOUD_URL)
        assert len(server.server_names) == 1
