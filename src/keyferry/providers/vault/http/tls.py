"""Creates TLS contexts for vaults from files, and caches them until a file changes."""

from __future__ import annotations

import asyncio
import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from keyferry.errors import PlatformError, Stage, excerpt
from keyferry.formats.bounded_dict import BoundedDict
from keyferry.telemetry.logs import get_logger

if TYPE_CHECKING:
    from keyferry.providers.settings import TlsLayer
    from keyferry.providers.vault.http.server import Server, TlsSettings
    from keyferry.telemetry.metrics import Metrics

MAX_CONTEXTS = 128
MAX_CA_FILES = 1000
_log = get_logger("vault")


class TlsContexts:
    """Cache of TLS contexts by their settings. Vaults with equal settings share a context.

    Args:
        metrics: counts vaults whose certificate is not verified; None for none.
    """

    def __init__(self, metrics: Metrics | None = None) -> None:
        self._metrics = metrics
        self._cache: BoundedDict[TlsSettings, _CachedContext] = BoundedDict(MAX_CONTEXTS)
        self._load_lock = asyncio.Lock()

    async def get(self, server: Server) -> ssl.SSLContext:
        """Return the context for a vault; load it again if a file has changed.

        Raises:
            PlatformError: a file cannot be used.
        """
        settings = server.tls
        cached = self._cache.get(settings)
        # Directories may be large, so they are always checked in a thread.
        if cached and not any(layer.ca_folder for layer in settings.cas) and cached.is_current():
            return cached.context
        async with self._load_lock:
            try:
                cached = await asyncio.to_thread(
                    _load_if_changed, settings, self._cache.get(settings)
                )
            except (OSError, ssl.SSLError, ValueError) as error:
                raise _tls_files_error(error, settings) from error
            if settings.skip_verify and settings not in self._cache:
                _log.warning("TLS certificate of a vault is NOT verified", vault=server.host)
                if self._metrics is not None:
                    self._metrics.tls_verification_disabled(server.host)
            self._cache[settings] = cached
        return cached.context


@dataclass(frozen=True, slots=True)
class _CachedContext:
    """A context, and the files that it was created from with their time stamps and sizes."""

    context: ssl.SSLContext
    files: tuple[tuple[Path, int, int], ...]

    def is_current(self) -> bool:
        """Return whether none of the files has changed."""
        try:
            return all(_file_stamp(path) == (path, *stamp) for path, *stamp in self.files)
        except OSError:
            return False


def _load_if_changed(settings: TlsSettings, cached: _CachedContext | None) -> _CachedContext:
    """Return the cached context if none of its files has changed, otherwise a new one."""
    files = tuple(map(_file_stamp, _tls_files(settings)))
    if cached is not None and cached.files == files:
        return cached
    return _CachedContext(_new_context(settings), files)


def _file_stamp(path: Path) -> tuple[Path, int, int]:
    status = path.stat()
    return path, status.st_mtime_ns, status.st_size


def _tls_files(settings: TlsSettings) -> list[Path]:
    files: list[Path] = []
    for layer in settings.cas:
        files += _ca_files(layer)
    return files + [Path(name) for name in (settings.client_cert, settings.client_key) if name]


def _ca_files(layer: TlsLayer) -> list[Path]:
    if layer.ca_file:
        return [Path(layer.ca_file)]
    if not layer.ca_folder:
        return []
    folder = Path(layer.ca_folder)
    if not folder.is_dir():
        raise NotADirectoryError(20, "it is not a directory", layer.ca_folder)
    # The directory of a mounted ConfigMap contains each file twice, once below ..data.
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and not any(part.startswith("..") for part in path.parts)
    )
    if len(files) > MAX_CA_FILES:
        raise OSError(7, f"it contains more than {MAX_CA_FILES} files", layer.ca_folder)
    return files


def _new_context(settings: TlsSettings) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Private CAs often violate RFC 5280. Upstream accepts them, because Go's verification does.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if settings.system_cas:
        context.load_default_certs()
    for layer in settings.cas:
        _load_cas(context, layer, skip_invalid=settings.system_cas)
    if settings.client_cert:
        context.load_cert_chain(settings.client_cert, settings.client_key, password="")
    if settings.client_pem:
        _load_client_pem(context, settings.client_pem)
    if settings.skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _load_cas(context: ssl.SSLContext, layer: TlsLayer, *, skip_invalid: bool) -> None:
    """Trust the CAs of one layer.

    Args:
        context: context to add the CAs to.
        layer: names the CAs.
        skip_invalid: whether to skip files in a directory that are not PEM.
    """
    if layer.ca_pem:
        try:
            context.load_verify_locations(cadata=layer.ca_pem)
        except ssl.SSLError as error:
            problem = "the environment variable ..._CACERT_BYTES contains no PEM certificate"
            raise ValueError(problem) from error
    for path in _ca_files(layer):
        try:
            context.load_verify_locations(cafile=path)
        except ssl.SSLError as error:
            if layer.ca_folder and skip_invalid:
                continue
            raise ValueError(f"{excerpt(str(path))} contains no PEM certificate") from error


def _load_client_pem(context: ssl.SSLContext, pem: bytes) -> None:
    """Load a certificate and its key from memory. The ssl module reads only files."""
    descriptor = os.memfd_create("client", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, pem)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}", password="")
    finally:
        os.close(descriptor)


def _tls_files_error(error: Exception, settings: TlsSettings) -> PlatformError:
    if isinstance(error, ssl.SSLError) and settings.client_pem:
        return PlatformError(
            "tls.crt and tls.key of the pod's Secret are not a matching certificate and key",
            "Store a PEM certificate and its unencrypted private key in the Secret.",
            stage=Stage.TLS,
        )
    if isinstance(error, OSError) and error.filename is not None:
        reason = f"{excerpt(str(error.filename))} cannot be read ({error.strerror})"
    elif isinstance(error, ssl.SSLError):
        path = excerpt(settings.client_cert)
        reason = f"the client certificate {path} and its key do not match or are not PEM"
    else:
        reason = str(error)
    return PlatformError(
        f"the configured TLS files cannot be used: {reason}",
        "Mount the files in PEM into the container of Keyferry, and set their paths there.",
        stage=Stage.TLS,
    )
