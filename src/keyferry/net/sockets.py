"""gRPC endpoints and their unix sockets."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from msgspec import Struct

from keyferry.errors import PlatformError, SettingInvalidError, Stage

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_SOCKET_PATH_BYTES = 107
"""Limit of the path of a unix socket (unix(7), without the final zero byte)."""


class GrpcEndpoint(Struct, frozen=True):
    """Address of a gRPC server: a unix socket, or host and port."""

    address: str
    """In gRPC syntax: `unix:/csi/csi.sock` or `127.0.0.1:7777`."""
    socket: Path | None
    """The socket file; None for host and port."""


def parse_endpoint(text: str) -> GrpcEndpoint:
    """Parse `unix://tmp/csi.sock`, `unix:///csi/csi.sock` or `tcp://host:port`, as upstream does.

    A unix path gets a leading slash: `unix://tmp/csi.sock` is `/tmp/csi.sock`.

    Raises:
        SettingInvalidError: `text` has another form.
    """
    scheme, separator, rest = text.partition("://")
    if separator and rest and scheme.lower() == "unix":
        path = "/" + rest.lstrip("/")
        return GrpcEndpoint(f"unix:{path}", Path(path))
    if separator and rest and scheme.lower() == "tcp":
        return GrpcEndpoint(rest if not rest.startswith(":") else f"0.0.0.0{rest}", None)  # noqa: S104 - as configured
    raise SettingInvalidError(
        f"invalid endpoint: {text!r}",
        "Use unix:///path/to/csi.sock or tcp://host:port.",
    )


class BoundSocket(Struct, frozen=True):
    """A socket file of this process; another process may replace it."""

    path: Path
    inode: int

    def is_current(self) -> bool:
        """Return whether the file exists and was not replaced."""
        try:
            return self.path.lstat().st_ino == self.inode
        except OSError:
            return False

    def remove(self) -> None:
        """Remove the file, unless another process replaced it."""
        if self.is_current():
            self.path.unlink(missing_ok=True)


def bind_private(endpoint: GrpcEndpoint, bind: Callable[[str], object]) -> BoundSocket | None:
    """Call `bind` with the address; a unix socket has mode 0600 from its creation.

    1. The socket is bound in a hidden directory and then renamed, so that it never has other
       permissions and replaces a previous socket atomically.
    2. A missing parent directory is created with mode 0700.
    3. A socket of a stopped process is replaced; any other file is an error.

    Returns:
        The socket file; None for host and port.

    Raises:
        PlatformError: the directory cannot be created, or the path exists and is not a socket.
    """
    if endpoint.socket is None:
        bind(endpoint.address)
        return None
    if len(os.fsencode(endpoint.socket)) > MAX_SOCKET_PATH_BYTES:
        raise PlatformError(
            f"failed to listen on {endpoint.socket}:"
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
            f"failed to listen on {endpoint.socket}: {error.strerror}",
            "Choose another --endpoint, or fix the permissions of the directory.",
            stage=Stage.REQUEST,
        ) from error


def _bind_hidden(path: Path, bind: Callable[[str], object]) -> BoundSocket:
    with TemporaryDirectory(dir=path.parent, prefix=".") as folder:
        hidden = Path(folder) / path.name
        # The path through the descriptor is short, whatever the length of the directory name.
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
            raise FileExistsError(0, "path exists and is not a socket")
