"""Keeps a few TLS contexts for vaults, each with its own connections, until a file changes.

The server name belongs to a connection and not to a context, so that vaults with equal CAs and
client certificates share a context.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from keyferry.aio.jobs import ThreadJobRunner
from keyferry.aio.single_flight import SharedCall
from keyferry.aio.tenant import current_tenant
from keyferry.errors import PlatformError, SecretDataError, Stage
from keyferry.providers.key_jobs import CLIENT_PEM
from keyferry.providers.vault.http.system_cas import trust_system_cas
from keyferry.providers.vault.http.tls_files import (
    TlsFileError,
    TlsFiles,
    read_stamps,
    read_tls_files,
)
from keyferry.telemetry.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from keyferry.aio.jobs import JobRunner
    from keyferry.formats.confined_files import ConfinedFiles, FileStamp
    from keyferry.net.connection_pool import ConnectionPool
    from keyferry.net.http_client import HttpsClient
    from keyferry.providers.class_files import ClassFiles
    from keyferry.providers.vault.http.server import Server, TlsSettings
    from keyferry.telemetry.metrics import ProviderMetrics

MAX_CONTEXTS = 16
"""Maximum number of unused contexts that depend on a SecretProviderClass or a pod's Secret."""
MAX_CONTEXTS_OF_TENANT = 8
"""Maximum number of such contexts that one tenant created, including those in use."""
MAX_CONTEXT_BYTES = 16 << 20
"""Maximum memory of such contexts that are unused."""
_CONTEXT_BYTES = 32 << 10
"""Approximate memory of a context without CA certificates."""
_BYTES_PER_PEM_BYTE = 4
"""Approximate memory of a CA certificate, as a multiple of its size in PEM."""
FILE_CHECK_SECONDS = 0.1
"""How often it is checked whether the files of a context have changed, so that the requests of a
mount check them once. A check takes as long as sending a request."""
_PICK_UP_SECONDS = 1.0
"""How long a new context is kept for the request that it was created for."""
_log = get_logger("vault")


@dataclass(eq=False)
class TlsConnections:
    """A TLS context, and the connections that use it.

    Attributes:
        context: the context.
        pool: the connections.
        stamps: the stamps of the files that the context was created from.
        size: approximate memory of the context in bytes.
        tenant: the tenant that created it.
        users: number of requests that use it.
        retired: whether it is closed as soon as no request uses it.
        unused_until: until when it is kept for the request that it was created for, in seconds of
            the event loop's clock; 0 if that request uses it or has used it.
        checked_at: when its files were checked last, in seconds of that clock.
    """

    context: ssl.SSLContext = field(repr=False)
    pool: ConnectionPool
    stamps: tuple[FileStamp, ...]
    size: int
    tenant: str
    users: int = 0
    retired: bool = False
    unused_until: float = 0.0
    checked_at: float = 0.0

    def is_idle(self, now: float) -> bool:
        """Return whether no request uses the context, or is about to use it for the first time."""
        return not self.users and now >= self.unused_until


class TlsContexts:
    """Cache of TLS contexts by their settings.

    Contexts that depend only on the administrator's settings are never evicted. Of the others, a
    tenant evicts its own first, and waits while all of its own are in use.

    Args:
        https: creates the connections.
        class_files: the files that SecretProviderClasses may name.
        metrics: counts vaults whose certificate is not verified; None for none.
        jobs: parses client certificates; None for threads of its own.
    """

    def __init__(
        self,
        https: HttpsClient,
        class_files: ClassFiles,
        metrics: ProviderMetrics | None = None,
        jobs: JobRunner | None = None,
    ) -> None:
        self._https = https
        self._class_files = class_files
        self._metrics = metrics
        self._jobs = jobs or ThreadJobRunner()
        self._cached: dict[TlsSettings, TlsConnections] = {}  # least recently used first
        self._retired: set[TlsConnections] = set()
        self._loading: dict[tuple[str, TlsSettings], SharedCall[TlsConnections]] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._released = asyncio.Condition()

    @asynccontextmanager
    async def open(self, server: Server, *, seconds: float) -> AsyncIterator[TlsConnections]:
        """Yield the context for a vault and its connections; load it again if a file has changed.

        Args:
            server: the vault.
            seconds: how long to wait for a place for a new context.

        Raises:
            ClassInvalidError: a file of the SecretProviderClass cannot be used.
            PlatformError: another file cannot be used, or the tenant has too many contexts.
        """
        settings = server.tls.context_settings
        found = self._cached.get(settings)
        if found is None or not self._is_current(settings, found):
            found = await self._load(settings, server.host, seconds)
        if settings in self._cached:
            self._cached[settings] = self._cached.pop(settings)
        found.users += 1
        found.unused_until = 0.0
        try:
            yield found
        finally:
            found.users -= 1
            if not found.users:
                self._evict_unused()
                async with self._released:
                    self._released.notify_all()

    async def close(self) -> None:
        """Close all connections."""
        for connections in (*self._cached.values(), *self._retired):
            await connections.pool.close()
        self._cached.clear()
        self._retired.clear()
        await asyncio.gather(*self._closing)

    def _is_current(self, settings: TlsSettings, found: TlsConnections) -> bool:
        now = asyncio.get_running_loop().time()
        if now < found.checked_at + FILE_CHECK_SECONDS:
            return True
        # Directories may be large, so they are always checked in a thread.
        if any(layer.ca_folder for layer in settings.cas):
            return False
        try:
            if read_stamps(settings, self._class_files.files) != found.stamps:
                return False
        except TlsFileError:
            return False
        found.checked_at = now
        return True

    async def _load(self, settings: TlsSettings, host: str, seconds: float) -> TlsConnections:
        """Load a context; no tenant waits for the files of another one."""
        key = (current_tenant(), settings)
        call = self._loading.get(key)
        if call is None:

            def done() -> None:
                self._loading.pop(key, None)

            call = SharedCall(self._load_and_store(settings, host, seconds), done)
            self._loading[key] = call
        return await call.wait()

    async def _load_and_store(
        self, settings: TlsSettings, host: str, seconds: float
    ) -> TlsConnections:
        cached = self._cached.get(settings)
        stamps = cached.stamps if cached else None
        files = self._class_files.files
        checked_at = asyncio.get_running_loop().time()
        try:
            found = await self._class_files.run(
                lambda: _read_if_changed(settings, files, stamps=stamps)
            )
            if found is None and cached is not None and self._cached.get(settings) is cached:
                cached.checked_at = checked_at
                return cached
            if found is None:  # evicted meanwhile
                return await self._load_and_store(settings, host, seconds)
            client_pem = await self._client_pem(settings, found)
            context = await self._class_files.run(lambda: new_context(settings, found, client_pem))
        except TlsFileError as error:
            raise error.translated() from None
        tenant = current_tenant()
        if settings.is_tenants:
            await self._wait_for_place(tenant, seconds)
        new = TlsConnections(
            context,
            self._https.new_pool(),
            found.stamps,
            _CONTEXT_BYTES + _BYTES_PER_PEM_BYTE * sum(len(ca.pem) for ca in found.cas),
            tenant,
            unused_until=asyncio.get_running_loop().time() + _PICK_UP_SECONDS,
            checked_at=checked_at,
        )
        if replaced := self._cached.pop(settings, None):
            self._retire(replaced)
        self._cached[settings] = new
        if settings.skip_verify and replaced is None:
            _log.warning("TLS certificate of a vault is NOT verified", vault=host)
            if self._metrics is not None:
                self._metrics.tls_verification_disabled(host)
        return new

    async def _client_pem(self, settings: TlsSettings, files: TlsFiles) -> bytes:
        """Return the client certificate of the pod's Secret, or else that of the files, if any.

        OpenSSL gets it normalized, because a key may ask for any amount of work.

        Raises:
            TlsFileError: the certificate in the files cannot be used.
            PlatformError: the certificate in the pod's Secret cannot be used.
        """
        pem = settings.client_pem or files.client_pem
        if not pem:
            return b""
        try:
            return await self._jobs.run(CLIENT_PEM, pem, tenant=current_tenant())
        except SecretDataError as error:
            if settings.client_pem:
                raise _client_pem_error(error.problem) from None
            raise _client_files_error(settings) from None

    # --- Limits -----------------------------------------------------------------------------------

    async def _wait_for_place(self, tenant: str, seconds: float) -> None:
        """Wait until the tenant may create another context.

        Raises:
            PlatformError: all contexts of the tenant are in use for too long.
        """
        try:
            async with asyncio.timeout(seconds), self._released:
                while not self._has_place(tenant):
                    # A context that nobody picked up becomes free without a notification.
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self._released.wait(), _PICK_UP_SECONDS)
        except TimeoutError:
            raise PlatformError(
                f"the pods of this namespace use more than {MAX_CONTEXTS_OF_TENANT} combinations "
                "of CAs and client certificates for vaults at the same time",
                "Use fewer combinations, or wait: kubelet retries.",
                stage=Stage.TLS,
            ) from None

    def _has_place(self, tenant: str) -> bool:
        """Evict unused contexts of a tenant until it may create one; return whether it may."""
        own = [(key, each) for key, each in self._tenants_cached() if each.tenant == tenant]
        in_use = sum(1 for each in self._retired if each.tenant == tenant)
        now = asyncio.get_running_loop().time()
        for key, each in own:
            if len(own) + in_use < MAX_CONTEXTS_OF_TENANT:
                break
            if each.is_idle(now):
                self._retire(self._cached.pop(key))
                return True
        return len(own) + in_use < MAX_CONTEXTS_OF_TENANT

    def _evict_unused(self) -> None:
        """Evict the least recently used contexts beyond the limits, and close retired ones."""
        for retired in [each for each in self._retired if not each.users]:
            self._retired.discard(retired)
            self._close(retired)
        now = asyncio.get_running_loop().time()
        unused = [(key, each) for key, each in self._tenants_cached() if each.is_idle(now)]
        count, size = len(unused), sum(each.size for _, each in unused)
        for key, each in unused:
            if count <= MAX_CONTEXTS and size <= MAX_CONTEXT_BYTES:
                return
            self._retire(self._cached.pop(key))
            count, size = count - 1, size - each.size

    def _tenants_cached(self) -> list[tuple[TlsSettings, TlsConnections]]:
        return [(key, each) for key, each in self._cached.items() if key.is_tenants]

    def _retire(self, connections: TlsConnections) -> None:
        """Close a context that is no longer cached, once no request uses it."""
        connections.retired = True
        if connections.users:
            self._retired.add(connections)
        else:
            self._close(connections)

    def _close(self, connections: TlsConnections) -> None:
        task = asyncio.create_task(connections.pool.close(), name="close TLS connections")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


def _read_if_changed(
    settings: TlsSettings, files: ConfinedFiles, *, stamps: tuple[FileStamp, ...] | None
) -> TlsFiles | None:
    """Return the content of the files; None if none of them has changed.

    Args:
        settings: settings of the context.
        files: the files that SecretProviderClasses may name.
        stamps: the stamps of the files of the cached context; None without one.

    Raises:
        TlsFileError: a file cannot be used.
    """
    if stamps is not None and read_stamps(settings, files) == stamps:
        return None
    return read_tls_files(settings, files)


def new_context(settings: TlsSettings, files: TlsFiles, client_pem: bytes = b"") -> ssl.SSLContext:
    """Return a context for settings and the content of their files.

    Args:
        settings: the settings.
        files: the CA certificates.
        client_pem: the normalized client certificate and its key; empty for none.

    Raises:
        TlsFileError: a file contains no usable certificate or key.
        KeyferryError: another certificate or key cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Private CAs often violate RFC 5280. Upstream accepts them, because Go's verification does.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if settings.system_cas:
        trust_system_cas(context)
    for layer in settings.cas:
        if layer.ca_pem:
            _trust_variable(context, layer.ca_pem)
    for ca in files.cas:
        try:
            context.load_verify_locations(cadata=ca.pem)
        except ssl.SSLError:
            reason = "contains no PEM certificate"
            raise TlsFileError(ca.path, reason, from_class=ca.from_class) from None
    if client_pem:
        try:
            _load_client_pem(context, client_pem)
        except ssl.SSLError:
            if settings.client_pem:
                raise _client_pem_error("OpenSSL refuses them") from None
            raise _client_files_error(settings) from None
    if settings.skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _trust_variable(context: ssl.SSLContext, pem: str) -> None:
    try:
        context.load_verify_locations(cadata=pem)
    except (ssl.SSLError, ValueError):
        raise PlatformError(
            "the configured TLS files cannot be used: the environment variable ..._CACERT_BYTES "
            "contains no PEM certificate",
            "Set it to CA certificates in PEM.",
            stage=Stage.TLS,
        ) from None


def _load_client_pem(context: ssl.SSLContext, pem: bytes) -> None:
    """Load a certificate and its key from memory. The ssl module reads only files."""
    descriptor = os.memfd_create("client", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, pem)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}", password="")
    finally:
        os.close(descriptor)


def _client_files_error(settings: TlsSettings) -> TlsFileError:
    reason = "and its key do not match or are not PEM"
    return TlsFileError(settings.client_cert, reason, from_class=settings.client_from_class)


def _client_pem_error(problem: str) -> PlatformError:
    return PlatformError(
        "tls.crt and tls.key of the pod's Secret are not a matching certificate and key: "
        f"{problem}",
        "Store a PEM certificate and its unencrypted private key in the Secret.",
        stage=Stage.TLS,
    )
