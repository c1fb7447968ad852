"""TLS contexts are few, small and fairly shared, and their connections are closed with them."""

from __future__ import annotations

import asyncio
import gc
import ssl
import weakref
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from keyferry.aio.tenant import working_for
from keyferry.errors import PlatformError
from keyferry.formats.confined_files import ConfinedFiles, FileStamp
from keyferry.net.http_client import HttpsClient, HttpsSettings
from keyferry.providers.class_files import ClassFiles
from keyferry.providers.restrictions import UNRESTRICTED
from keyferry.providers.settings import TlsLayer
from keyferry.providers.vault.http import tls
from keyferry.providers.vault.http.server import Address, Server, TlsSettings
from keyferry.providers.vault.http.system_cas import trust_system_cas
from keyferry.providers.vault.http.tls import (
    FILE_CHECK_SECONDS,
    MAX_CONTEXT_BYTES,
    MAX_CONTEXTS,
    MAX_CONTEXTS_OF_TENANT,
    TlsContexts,
)
from keyferry.providers.vault.http.tls_files import read_stamps
from keyferry.records import replace
from tests.fakes.vault_api import running_vault
from tests.fakes.vault_certificates import SERVER_NAME_PARAMETER, VaultCertificates
from tests.fakes.vault_mounts import vault_mounts
from tests.integration.vault_transport.preparation import DB, prepare

DEFAULT = Server(Address("https://vault.test"))
LONG = 10.0


@pytest.fixture
async def contexts() -> AsyncIterator[TlsContexts]:
    https = HttpsClient(HttpsSettings())
    made = TlsContexts(https, ClassFiles(UNRESTRICTED))
    yield made
    await made.close()
    await https.close()


@pytest.fixture
def certificates(tmp_path: Path) -> VaultCertificates:
    return VaultCertificates(tmp_path)


def _client(made: VaultCertificates, number: int) -> Server:
    """Return the vault with a client certificate of its own."""
    comment = f"# {number}\n".encode()
    return DEFAULT.with_client_certificate(made.client.pem + made.client.key_pem + comment)


async def _context(contexts: TlsContexts, server: Server, tenant: str = "shop") -> ssl.SSLContext:
    with working_for(tenant):
        async with contexts.open(server, seconds=LONG) as found:
            return found.context


async def test_server_names_share_a_context(contexts: TlsContexts) -> None:
    """The name belongs to a connection."""
    servers = [
        replace(DEFAULT, tls=TlsSettings(server_name=f"{number}.test")) for number in range(50)
    ]
    assert 1 == len({id(await _context(contexts, server)) for server in servers})


async def test_requests_of_one_mount_check_the_files_once(
    contexts: TlsContexts, certificates: VaultCertificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looking at the files takes as long as sending a request. A change is noticed soon after."""
    checks: list[TlsSettings] = []

    def counted(settings: TlsSettings, files: ConfinedFiles) -> tuple[FileStamp, ...]:
        checks.append(settings)
        return read_stamps(settings, files)

    monkeypatch.setattr(tls, "read_stamps", counted)
    layer = TlsLayer(ca_file=str(certificates.ca))
    server = replace(DEFAULT, tls=TlsSettings(cas=(layer,), system_cas=False))
    assert FILE_CHECK_SECONDS <= 0.1
    monkeypatch.setattr(tls, "FILE_CHECK_SECONDS", 3600.0)
    first = await _context(contexts, server)
    for _ in range(50):
        assert first is await _context(contexts, server)
    assert [] == checks
    monkeypatch.setattr(tls, "FILE_CHECK_SECONDS", 0.0)
    assert first is await _context(contexts, server)
    monkeypatch.setattr(tls, "FILE_CHECK_SECONDS", 3600.0)
    for _ in range(50):
        assert first is await _context(contexts, server)
    assert 1 == len(checks)
    certificates.ca.write_bytes(certificates.ca.read_bytes() + b"\n")
    monkeypatch.setattr(tls, "FILE_CHECK_SECONDS", 0.0)
    assert first is not await _context(contexts, server)


async def test_server_name_is_verified_for_each_connection(
    certificates: VaultCertificates,
) -> None:
    """An idle connection of another name is not used."""
    async with (
        running_vault(context=certificates.context()) as vault,
        vault_mounts(vault) as mounts,
    ):
        prepare(vault)
        ca = {"vaultCACertPath": str(certificates.ca)}
        assert await mounts.files(DB, **SERVER_NAME_PARAMETER, **ca)
        with pytest.raises(Exception, match="another name"):
            await mounts.files(DB, vaultTLSServerName="other.domain.com", **ca)
        assert await mounts.files(DB, **SERVER_NAME_PARAMETER, **ca)


async def test_client_certificates_never_evict_the_shared_context(
    contexts: TlsContexts, certificates: VaultCertificates
) -> None:
    shared = await _context(contexts, DEFAULT)
    for number in range(3 * MAX_CONTEXTS):
        await _context(contexts, _client(certificates, number), tenant=str(number))
    assert shared is await _context(contexts, DEFAULT)


async def test_evicted_context_is_freed(
    contexts: TlsContexts, certificates: VaultCertificates
) -> None:
    """Its connections are closed, too."""
    made = [
        weakref.ref(await _context(contexts, _client(certificates, number), tenant=str(number)))
        for number in range(3 * MAX_CONTEXTS)
    ]
    await asyncio.sleep(0)
    gc.collect()
    assert MAX_CONTEXTS == sum(1 for each in made if each() is not None)


async def test_tenant_evicts_only_its_own_contexts(
    contexts: TlsContexts, certificates: VaultCertificates
) -> None:
    victim = await _context(contexts, _client(certificates, 0), tenant="shop")
    for number in range(1, 5 * MAX_CONTEXTS):
        await _context(contexts, _client(certificates, number), tenant="evil")
    assert victim is await _context(contexts, _client(certificates, 0), tenant="shop")


async def test_tenant_waits_while_all_of_its_contexts_are_in_use(
    contexts: TlsContexts, certificates: VaultCertificates
) -> None:
    """Another tenant does not, and neither does a context that is cached."""
    async with AsyncExitStack() as stack:
        with working_for("evil"):
            for number in range(MAX_CONTEXTS_OF_TENANT):
                server = _client(certificates, number)
                await stack.enter_async_context(contexts.open(server, seconds=LONG))
            with pytest.raises(PlatformError, match="at the same time"):
                async with contexts.open(_client(certificates, 99), seconds=0.01):
                    pass
        await _context(contexts, _client(certificates, 99), tenant="shop")
        await _context(contexts, _client(certificates, 0), tenant="evil")
        await _context(contexts, DEFAULT, tenant="evil")
        waiting = asyncio.create_task(_context(contexts, _client(certificates, 98), "evil"))
        await asyncio.sleep(0.01)
        assert not waiting.done()
    await waiting


async def test_contexts_with_many_cas_count_by_their_size(
    contexts: TlsContexts, certificates: VaultCertificates, tmp_path: Path
) -> None:
    """The limit of bytes is reached before that of contexts."""
    folder = tmp_path / "cas"
    folder.mkdir()
    pem = Path("/etc/ssl/certs/ca-certificates.crt").read_bytes()
    (folder / "all").write_bytes(pem)
    fitting = MAX_CONTEXT_BYTES // (4 * len(pem))
    if fitting >= MAX_CONTEXTS:
        (folder / "more").write_bytes(pem.replace(b"\n", b"\r\n"))
        fitting = MAX_CONTEXT_BYTES // (8 * len(pem))
    layer = TlsLayer(ca_folder=str(folder), from_class=True)
    made = []
    for number in range(MAX_CONTEXTS):
        client = _client(certificates, number)
        server = replace(client, tls=replace(client.tls, cas=(layer,), system_cas=False))
        made.append(weakref.ref(await _context(contexts, server, tenant=str(number))))
    await asyncio.sleep(0)
    gc.collect()
    assert sum(1 for each in made if each() is not None) <= fitting


def test_system_cas_are_read_on_demand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where OpenSSL finds them by hash; a bundle of SSL_CERT_FILE is read as a whole."""
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    paths = ssl.get_default_verify_paths()
    context, whole = (ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) for _ in range(2))
    trust_system_cas(context)
    whole.load_default_certs()
    on_demand = paths.cafile and list(Path(paths.openssl_capath).glob("????????.0"))
    expected = 0 if on_demand else whole.cert_store_stats()["x509"]
    assert expected == context.cert_store_stats()["x509"]


def test_configured_bundle_replaces_the_system_cas(
    monkeypatch: pytest.MonkeyPatch, certificates: VaultCertificates
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.ca))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trust_system_cas(context)
    assert 1 == context.cert_store_stats()["x509"]
