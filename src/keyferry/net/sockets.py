"""Endpoints and the unix sockets behind them."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from keyferry.errors import PlatformError, Stage

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_SOCKET_PATH_BYTES = 107
"""What the kernel takes as the path of a unix socket (unix(7), with the closing zero byte)."""


@dataclass(frozen=True, slots=True)
class GrpcEndpoint:
    """Where a gRPC server listens: a unix socket, or host and port as gRPC spells them."""

    address: str
    """What gRPC is told: `unix:/csi/csi.sock` or `127.0.0.1:7777`."""
    socket: Path | None
    """The socket file of a unix endpoint."""


def parse_endpoint(text: str) -> GrpcEndpoint:
    """Reads `unix://tmp/csi.sock`, `unix:///csi/csi.sock` or `tcp://host:port`, as upstream does.

    The remainder of a unix endpoint gets a leading slash, so the first form means `/tmp/csi.sock`.

    Raises:
        PlatformError: neither of the forms.
    """
    scheme, separator, rest = text.partition("://")
    if separator and rest and scheme.lower() == "unix":
        path = "/" + rest.lstrip("/")
        return GrpcEndpoint(f"unix:{path}", Path(path))
    if separator and rest and scheme.lower() == "tcp":
        return GrpcEndpoint(rest if not rest.startswith(":") else f"0.0.0.0{rest}", None)  # noqa: S104 - as asked
    raise PlatformError(
        f"invalid endpoint: {text!r}",
        "Write it as unix:///path/to/csi.sock or tcp://host:port.",
        stage=Stage.REQUEST,
    )


@dataclass(frozen=True, slots=True)
class BoundSocket:
    """A socket file of ours, which another process may replace meanwhile."""

    path: Path
    inode: int

    def is_current(self) -> bool:
        """Whether the file is still there, and still ours."""
        try:
            return self.path.lstat().st_ino == self.inode
        except OSError:
            return False

    def remove(self) -> None:
        """Remove the file, unless it is no longer ours: a successor may serve there already."""
        if self.is_current():
            self.path.unlink(missing_ok=True)


def bind_private(endpoint: GrpcEndpoint, bind: Callable[[str], object]) -> BoundSocket | None:
    """Calls `bind` with the address; a unix socket is 0600 from its first moment.

    The socket is bound in a hidden folder and then renamed, so that it never stands there with
    other rights, and so that it takes the place of a predecessor's in one step. A folder that this
    makes is 0700. A socket left by a process that is gone is replaced; anything else in its place
    is not touched.

    Returns:
        The socket file; None for host and port.

    Raises:
        PlatformError: the folder cannot be made, or a file that is no socket stands there.
    """
    if endpoint.socket is None:
        bind(endpoint.address)
        return None
    if len(os.fsencode(endpoint.socket)) > MAX_SOCKET_PATH_BYTES:
        raise PlatformError(
            f"cannot listen on {endpoint.socket}:"
            f" a socket path has at most {MAX_SOCKET_PATH_BYTES} bytes",
            "Choose a shorter --endpoint.",
            stage=Stage.REQUEST,
        )
    try:
        endpoint.socket.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _refuse_other_files(endpoint.socket)
        return _bind_hidden(endpoint.socket, bind)
    except OSError as error:
        raise PlatformError(
            f"cannot listen on {endpoint.socket}: {error.strerror}",
            "Choose another --endpoint, or mend the permissions of the folder.",
            stage=Stage.REQUEST,
        ) from error


def _bind_hidden(path: Path, bind: Callable[[str], object]) -> BoundSocket:
    with TemporaryDirectory(dir=path.parent, prefix=".") as folder:
        hidden = Path(folder) / path.name
        # By its descriptor the folder has a short path, whatever the length of its name.
        descriptor = os.open(folder, os.O_PATH)
        try:
            bind(f"unix:/proc/self/fd/{descriptor}/{path.name}")
        finally:
            os.close(descriptor)
        hidden.chmod(0o600)
        hidden.rename(path)
    return BoundSocket(path, path.lstat().st_ino)


def _refuse_other_files(path: Path) -> None:
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise FileExistsError(0, "a file that is no socket stands there")
