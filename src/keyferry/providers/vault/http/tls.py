"""The TLS contexts of vaults, made of the files that a class names and kept while those stay."""

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
    """Makes contexts, each one once.

    Args:
        metrics: told of vaults that are not verified; None where nobody looks.
    """

    def __init__(self, metrics: Metrics | None = None) -> None:
        self._metrics = metrics
        self._cache: BoundedDict[TlsSettings, _CachedContext] = BoundedDict(MAX_CONTEXTS)
        self._load_lock = asyncio.Lock()

    async def get(self, server: Server) -> ssl.SSLContext:
        """The context for a vault, the same for equal settings: connections are shared by it.

        A file that has changed is read anew.

        Raises:
            PlatformError: a file cannot be used.
        """
        settings = server.tls
        kept = self._cache.get(settings)
        # Folders may be large, so they are looked at on a thread.
        if kept and not any(layer.ca_folder for layer in settings.cas) and kept.is_current():
            return kept.context
        async with self._load_lock:
            try:
                kept = await asyncio.to_thread(
                    _load_if_changed, settings, self._cache.get(settings)
                )
            except (OSError, ssl.SSLError, ValueError) as error:
                raise _tls_files_error(error, settings) from error
            if settings.skip_verify and settings not in self._cache:
                _log.warning("TLS of a vault is NOT verified", vault=server.host)
                if self._metrics is not None:
                    self._metrics.tls_verification_disabled(server.host)
            self._cache[settings] = kept
        return kept.context


@dataclass(frozen=True, slots=True)
class _CachedContext:
    """A context, and the files that it was made of as they were then."""

    context: ssl.SSLContext
    files: tuple[tuple[Path, int, int], ...]

    def is_current(self) -> bool:
        """Whether no file of it has changed."""
        try:
            return all(_file_stamp(path) == (path, *stamp) for path, *stamp in self.files)
        except OSError:
            return False


def _load_if_changed(settings: TlsSettings, cached: _CachedContext | None) -> _CachedContext:
    """The kept context while its files are the same, else a new one."""
    files = tuple(map(_file_stamp, _tls_files(settings)))
    if cached is not None and cached.files == files:
        return cached
    return _CachedContext(_new_context(settings), files)


def _file_stamp(path: Path) -> tuple[Path, int, int]:
    found = path.stat()
    return path, found.st_mtime_ns, found.st_size


def _tls_files(settings: TlsSettings) -> list[Path]:
    found: list[Path] = []
    for layer in settings.cas:
        found += _ca_files(layer)
    return found + [Path(name) for name in (settings.client_cert, settings.client_key) if name]


def _ca_files(layer: TlsLayer) -> list[Path]:
    if layer.ca_file:
        return [Path(layer.ca_file)]
    if not layer.ca_folder:
        return []
    folder = Path(layer.ca_folder)
    if not folder.is_dir():
        raise NotADirectoryError(20, "it is no folder", layer.ca_folder)
    # The folders of a mounted ConfigMap hold each file twice, once below ..data.
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and not any(part.startswith("..") for part in path.parts)
    )
    if len(files) > MAX_CA_FILES:
        raise OSError(7, f"it holds more than {MAX_CA_FILES} files", layer.ca_folder)
    return files


def _new_context(settings: TlsSettings) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Private CAs often miss what RFC 5280 demands, and Go, for which classes are made, accepts it.
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
        context: whose trust grows.
        layer: names them.
        skip_invalid: whether a file of a folder that is no PEM is no error.
    """
    if layer.ca_pem:
        try:
            context.load_verify_locations(cadata=layer.ca_pem)
        except ssl.SSLError as error:
            raise ValueError("the environment variable ..._CACERT_BYTES holds no PEM") from error
    for path in _ca_files(layer):
        try:
            context.load_verify_locations(cafile=path)
        except ssl.SSLError as error:
            if layer.ca_folder and skip_invalid:
                continue
            raise ValueError(f"{excerpt(str(path))} holds no PEM certificate") from error


def _load_client_pem(context: ssl.SSLContext, pem: bytes) -> None:
    """Take a certificate and its key from memory: the library reads files alone."""
    number = os.memfd_create("client", os.MFD_CLOEXEC)
    try:
        os.write(number, pem)
        context.load_cert_chain(f"/proc/self/fd/{number}", password="")
    finally:
        os.close(number)


def _tls_files_error(error: Exception, settings: TlsSettings) -> PlatformError:
    if isinstance(error, ssl.SSLError) and settings.client_pem:
        return PlatformError(
            "tls.crt and tls.key of the pod's Secret cannot be used together",
            "Put a certificate in PEM and the key that belongs to it into the Secret, unencrypted.",
            stage=Stage.TLS,
        )
    if isinstance(error, OSError) and error.filename is not None:
        reason = f"{excerpt(str(error.filename))} cannot be read ({error.strerror})"
    elif isinstance(error, ssl.SSLError):
        whose = excerpt(settings.client_cert)
        reason = f"the client certificate of {whose} cannot be used with its key"
    else:
        reason = str(error)
    return PlatformError(
        f"the TLS files of the class cannot be used: {reason}",
        "The paths are those in the container of Keyferry: mount the files there, in PEM.",
        stage=Stage.TLS,
    )
