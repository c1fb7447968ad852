"""What no driver can do without, in a bare loop: the limit of any publish."""

from __future__ import annotations

import asyncio
import ctypes
import os
import ssl
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

_libc = ctypes.CDLL(None, use_errno=True)


def bare_cycle_seconds(folder: Path, *, contents: Sequence[bytes], cycles: int) -> float:
    """Return the mean duration of mounting a tmpfs, writing files, unmounting and removing it."""
    folder.mkdir(exist_ok=True)
    target = folder / "mount"
    start = time.perf_counter()
    for _ in range(cycles):
        _fill(target, contents)
        _check(_libc.umount2(os.fsencode(target), 0), target)
        target.rmdir()
    return (time.perf_counter() - start) / cycles


def _fill(target: Path, contents: Sequence[bytes]) -> None:
    target.mkdir()
    _check(_libc.mount(b"bare", os.fsencode(target), b"tmpfs", ctypes.c_ulong(0), b""), target)
    inner = target / "..2026"
    inner.mkdir()
    for number, content in enumerate(contents):
        descriptor = os.open(inner / str(number), os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        os.write(descriptor, content)
        os.fchmod(descriptor, 0o644)
        os.close(descriptor)
        (target / str(number)).symlink_to(f"..data/{number}")
    (target / "..data_tmp").symlink_to("..2026")
    (target / "..data_tmp").rename(target / "..data")


def _check(result: int, target: Path) -> None:
    if result:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), str(target))


async def bare_requests_seconds(url: str, ca: Path, requests: Sequence[str]) -> float:
    """Send all requests at once, each on a connection that is open; until all are answered.

    Args:
        url: of the server.
        ca: the PEM file that it is verified by.
        requests: of HTTP/1.1, after which the server closes.
    """
    server, tls = urlsplit(url), ssl.create_default_context(cafile=str(ca))
    connections = await asyncio.gather(
        *(asyncio.open_connection(server.hostname, server.port, ssl=tls) for _ in requests)
    )
    start = time.perf_counter()
    for (_, writer), request in zip(connections, requests, strict=True):
        writer.write(request.encode())
    answers = await asyncio.gather(*(reader.read() for reader, _ in connections))
    seconds = time.perf_counter() - start
    for (_, writer), answer in zip(connections, answers, strict=True):
        assert answer.startswith(b"HTTP/1.1 200 "), answer[:40]
        writer.close()
    return seconds
