"""Endpoints and the unix sockets behind them."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from keyferry.errors import Hop, PlatformError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


MAX_SOCKET_BYTES = 107
"""What the kernel takes as the path of a unix socket (unix(7), with the closing zero byte)."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a gRPC server listens: a unix socket, or host and port as gRPC spells them."""

    address: str
    """What gRPC is told: `unix:/csi/csi.sock` or `127.0.0.1:7777`."""
    socket: Path | None
    """The socket file of a unix endpoint."""


def parse_endpoint(text: str) -> Endpoint:
    """Reads `unix://tmp/csi.sock`, `unix:///csi/csi.sock` or `tcp://host:port`, as upstream does.

    The remainder of a unix endpoint gets a leading slash, so the first form means `/tmp/csi.sock`.

    Raises:
        PlatformError: neither of the forms.
    """
    scheme, separator, rest = text.partition("://")
    if separator and rest and scheme.lower() == "unix":
        path = "/" + rest.lstrip("/")
        return Endpoint(f"unix:{path}", Path(path))
    if separator and rest and scheme.lower() == "tcp":
        return Endpoint(rest if not rest.startswith(":") else f"0.0.0.0{rest}", None)  # noqa: S104 - as asked
    raise PlatformError(
        f"invalid endpoint: {text!r}",
        "Write it as unix:///path/to/csi.sock or tcp://host:port.",
        hop=Hop.REQUEST,
    )


def bind_private(endpoint: Endpoint, bind: Callable[[str], T]) -> T:
    """Calls `bind` with the address; a unix socket is 0600 from its first moment.

    A folder that it makes is 0700.

    A socket left by a process that is gone is replaced; anything else in its place is not touched.

    Raises:
        PlatformError: the folder cannot be made, or a file that is no socket stands there.
    """
    if endpoint.socket is None:
        return bind(endpoint.address)
    if len(os.fsencode(endpoint.socket)) > MAX_SOCKET_BYTES:
        raise PlatformError(
            f"cannot listen on {endpoint.socket}:"
            f" a socket path has at most {MAX_SOCKET_BYTES} bytes",
            "Choose a shorter --endpoint.",
            hop=Hop.REQUEST,
        )
    try:
        endpoint.socket.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _remove_stale(endpoint.socket)
    except OSError as error:
        raise PlatformError(
            f"cannot listen on {endpoint.socket}: {error.strerror}",
            "Choose another --endpoint, or mend the permissions of the folder.",
            hop=Hop.REQUEST,
        ) from error
    # Between bind and a later chmod anyone could connect, hence the mask. It is process-wide: call
    # this at start only.
    before = os.umask(0o177)
    try:
        return bind(endpoint.address)
    finally:
        os.umask(before)


def _remove_stale(socket: Path) -> None:
    try:
        mode = socket.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(0, "a file that is no socket stands there")
    socket.unlink()
