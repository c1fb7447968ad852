"""Reads the files of TLS settings: CA certificates and client certificates."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from msgspec import Struct

from keyferry.errors import ClassInvalidError, KeyferryError, PlatformError, Stage, excerpt
from keyferry.formats.confined_files import ConfinedFiles
from keyferry.telemetry.logs import get_logger

if TYPE_CHECKING:
    from keyferry.formats.confined_files import FileStamp
    from keyferry.providers.settings import TlsLayer
    from keyferry.providers.vault.http.server import TlsSettings

MAX_FILE_BYTES = 1 << 20
MAX_CA_BYTES = 2 << 20
"""Maximum size of all CA certificates of one vault."""
MAX_CA_FILES = 1000
_ANY_FILE = ConfinedFiles(("/",))
"""For paths that the administrator sets."""
_CERTIFICATE = re.compile(
    rb"-----BEGIN (X509 )?CERTIFICATE-----\s[^-]{1,100000}-----END (X509 )?CERTIFICATE-----"
)
_ANY_CERTIFICATE = b"CERTIFICATE-----"
_log = get_logger("vault")


class TlsFileError(Exception):
    """A file of TLS settings cannot be used.

    Args:
        path: path of the file or folder.
        reason: completes the path in a message.
        from_class: whether a SecretProviderClass names the file.
    """

    def __init__(self, path: str, reason: str, *, from_class: bool) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason
        self.from_class = from_class

    def translated(self) -> KeyferryError:
        """Return the error to raise.

        It is the same for all reasons if a SecretProviderClass names the file: it would show its
        author which files exist on the node.
        """
        if self.from_class:
            _log.debug("TLS file cannot be used", path=excerpt(self.path), reason=self.reason)
            return ClassInvalidError(
                f"the TLS file {excerpt(self.path)} of the SecretProviderClass cannot be used",
                "Name a PEM file below a folder that --class-files-dirs permits. Keyferry logs "
                "the reason at verbosity 2.",
                stage=Stage.TLS,
            )
        return PlatformError(
            f"the configured TLS files cannot be used: {excerpt(self.path)} {self.reason}",
            "Mount the files in PEM into the container of Keyferry, and set their paths there.",
            stage=Stage.TLS,
        )


class CaFile(Struct, frozen=True):
    """The CA certificates of one file.

    Attributes:
        path: path of the file.
        pem: the certificates in PEM.
        from_class: whether a SecretProviderClass names the file.
    """

    path: str
    pem: str
    from_class: bool


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The content of the files of TLS settings.

    Attributes:
        cas: the CA certificates, each certificate once.
        client_pem: client certificate and key; empty without a file.
        stamps: the stamps of all files.
    """

    cas: tuple[CaFile, ...]
    client_pem: bytes = field(repr=False)
    stamps: tuple[FileStamp, ...]


def read_stamps(settings: TlsSettings, files: ConfinedFiles) -> tuple[FileStamp, ...]:
    """Return the stamps of the files of TLS settings, which change with their content.

    Args:
        settings: the settings.
        files: the files that SecretProviderClasses may name.

    Raises:
        TlsFileError: a file cannot be found.
    """
    stamps: list[FileStamp] = []
    for layer in settings.cas:
        stamps += _ca_stamps(layer, files)
    for path in filter(None, (settings.client_cert, settings.client_key)):
        stamps.append(_stamp(path, files, from_class=settings.client_from_class))
    return tuple(stamps)


def read_tls_files(settings: TlsSettings, files: ConfinedFiles) -> TlsFiles:
    """Read the files of TLS settings.

    Args:
        settings: the settings.
        files: the files that SecretProviderClasses may name.

    Raises:
        TlsFileError: a file cannot be read, is too large, or contains no PEM.
    """
    stamps = read_stamps(settings, files)
    seen: set[bytes] = set()
    cas: list[CaFile] = []
    size = 0
    for layer in settings.cas:
        for stamp in _ca_stamps(layer, files):
            pem = _read_certificates(stamp.path, layer, files, seen, settings)
            size += len(pem)
            if size > MAX_CA_BYTES:
                reason = f"and other CA files contain more than {MAX_CA_BYTES} bytes"
                raise TlsFileError(stamp.path, reason, from_class=layer.from_class)
            if pem:
                cas.append(CaFile(stamp.path, pem, layer.from_class))
    client_pem = b"\n".join(
        _read(path, files, from_class=settings.client_from_class)
        for path in (settings.client_cert, settings.client_key)
        if path
    )
    return TlsFiles(tuple(cas), client_pem, stamps)


def _read_certificates(
    path: str, layer: TlsLayer, files: ConfinedFiles, seen: set[bytes], settings: TlsSettings
) -> str:
    """Return the certificates of a file that are not in `seen`, and add them to it.

    A file in a directory may contain something else if the CAs of the system are trusted, too.
    """
    content = _read(path, files, from_class=layer.from_class)
    if _ANY_CERTIFICATE not in content and not (layer.ca_folder and settings.system_cas):
        reason = "contains no PEM certificate"
        raise TlsFileError(path, reason, from_class=layer.from_class)
    found = [match[0] for match in _CERTIFICATE.finditer(content)]
    new = [block for block in dict.fromkeys(found) if block not in seen]
    seen.update(new)
    return b"\n".join(new).decode("ascii", "replace")


def _ca_stamps(layer: TlsLayer, files: ConfinedFiles) -> list[FileStamp]:
    if layer.ca_file:
        return [_stamp(layer.ca_file, files, from_class=layer.from_class)]
    if not layer.ca_folder:
        return []
    source, path = _source(layer.ca_folder, files, from_class=layer.from_class)
    try:
        return source.search(path, max_files=MAX_CA_FILES)
    except OSError as error:
        raise _unreadable(layer.ca_folder, error, from_class=layer.from_class) from error


def _stamp(path: str, files: ConfinedFiles, *, from_class: bool) -> FileStamp:
    source, full_path = _source(path, files, from_class=from_class)
    try:
        return source.stamp(full_path)
    except OSError as error:
        raise _unreadable(path, error, from_class=from_class) from error


def _read(path: str, files: ConfinedFiles, *, from_class: bool) -> bytes:
    source, full_path = _source(path, files, from_class=from_class)
    try:
        return source.read(full_path, max_bytes=MAX_FILE_BYTES)
    except OSError as error:
        raise _unreadable(path, error, from_class=from_class) from error


def _source(path: str, files: ConfinedFiles, *, from_class: bool) -> tuple[ConfinedFiles, str]:
    """Return where to look for a path, and the absolute path."""
    if from_class:
        return files, path
    return _ANY_FILE, os.path.abspath(path)  # noqa: PTH100 - resolve() would follow a link


def _unreadable(path: str, error: OSError, *, from_class: bool) -> TlsFileError:
    return TlsFileError(path, f"cannot be read ({error.strerror})", from_class=from_class)
