"""Trusts the CAs of this machine, without reading all of them into memory."""

from __future__ import annotations

import re
import ssl
from functools import lru_cache
from pathlib import Path

_HASHED_NAME = re.compile(r"[0-9a-f]{8}\.[0-9]+")


def trust_system_cas(context: ssl.SSLContext) -> None:
    """Trust the CAs of this machine.

    OpenSSL finds CAs by the hash of their name in a directory and reads only those that it needs. A
    bundle takes about 1 MiB for each context, so it is read only if the directory does not contain
    all of its CAs, or if SSL_CERT_FILE or SSL_CERT_DIR names others.
    """
    paths = ssl.get_default_verify_paths()
    folder, bundle = paths.openssl_capath, paths.openssl_cafile
    if (
        _is_same(paths.cafile, bundle)
        and _is_same(paths.capath, folder)
        and _has_all(folder, bundle, _modified(folder), _modified(bundle))
    ):
        context.load_verify_locations(capath=folder)
    else:
        context.load_default_certs()


def _is_same(used: str | None, default: str) -> bool:
    """Return whether no environment variable replaces a default path of OpenSSL."""
    default_path = Path(default)
    if used is None:
        return not default_path.exists()
    return Path(used).resolve() == default_path.resolve()


@lru_cache(maxsize=4)
def _has_all(folder: str, bundle: str, *_modified_at: int) -> bool:
    """Return whether a directory has at least as many CAs by hash as a bundle."""
    try:
        hashed = sum(1 for path in Path(folder).iterdir() if _HASHED_NAME.fullmatch(path.name))
        bundled = Path(bundle).read_bytes().count(b"-----BEGIN ") if Path(bundle).exists() else 0
    except OSError:
        return False
    return bool(hashed) and hashed >= bundled


def _modified(path: str) -> int:
    try:
        return Path(path).stat().st_mtime_ns
    except OSError:
        return 0
