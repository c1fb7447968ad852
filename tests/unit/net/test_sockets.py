"""keyferry.net.sockets: endpoints in upstream's format, and private sockets."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from keyferry.errors import PlatformError
from keyferry.net.sockets import MAX_SOCKET_PATH_BYTES, GrpcEndpoint, bind_private, parse_endpoint


def bound(endpoint: GrpcEndpoint) -> socket.socket:
    """A listening socket on a unix endpoint."""
    made = socket.socket(socket.AF_UNIX)

    def bind(address: str) -> None:
        made.bind(address.removeprefix("unix:"))
        made.listen()

    try:
        bind_private(endpoint, bind)
    except PlatformError:
        made.close()
        raise
    return made


@pytest.mark.parametrize(
    ("text", "address", "path"),
    [
        ("unix://tmp/csi.sock", "unix:/tmp/csi.sock", Path("/tmp/csi.sock")),
        ("unix:///csi/csi.sock", "unix:/csi/csi.sock", Path("/csi/csi.sock")),
        ("UNIX:///csi/csi.sock", "unix:/csi/csi.sock", Path("/csi/csi.sock")),
        ("tcp://127.0.0.1:77", "127.0.0.1:77", None),
        ("tcp://:77", "0.0.0.0:77", None),
        ("tcp://:7777", "0.0.0.0:7777", None),
        ("unix:///provider/azure.sock", "unix:/provider/azure.sock", Path("/provider/azure.sock")),
        ("tcp://[::1]:77", "[::1]:77", None),
    ],
)
def test_endpoint_is_parsed_like_upstream(text: str, address: str, path: Path | None) -> None:
    """The path of a unix endpoint gets a leading slash."""
    assert GrpcEndpoint(address, path) == parse_endpoint(text)


@pytest.mark.parametrize(
    "text", ["", "unix://", "/tmp/csi.sock", "unix:/tmp/x", "http://x", "tcp://", "udp://x"]
)
def test_invalid_endpoint_error_shows_both_forms(text: str) -> None:
    """The message shows the invalid value."""
    with pytest.raises(PlatformError, match="invalid endpoint") as caught:
        parse_endpoint(text)
    assert repr(text) in str(caught.value)
    assert "unix:///path/to/csi.sock or tcp://host:port" in str(caught.value)


def test_socket_has_mode_0600_from_its_creation(tmp_path: Path) -> None:
    """A new parent directory has mode 0700; the umask of the process is unchanged."""
    before = os.umask(0o022)
    os.umask(before)
    path = tmp_path / "new" / "csi.sock"
    with bound(parse_endpoint(f"unix://{path}")):
        assert 0o600 == stat.S_IMODE(path.stat().st_mode)
        assert 0o700 == stat.S_IMODE(path.parent.stat().st_mode)
    after = os.umask(before)
    assert before == after


def test_socket_of_a_stopped_process_is_replaced(tmp_path: Path) -> None:
    """A killed driver leaves its socket."""
    endpoint = parse_endpoint(f"unix://{tmp_path}/csi.sock")
    bound(endpoint).close()
    with bound(endpoint), socket.socket(socket.AF_UNIX) as client:
        client.connect(f"{tmp_path}/csi.sock")


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_file_that_is_not_a_socket_is_not_replaced(tmp_path: Path, kind: str) -> None:
    """A wrong --endpoint deletes no file."""
    path = tmp_path / "precious"
    match kind:
        case "file":
            path.write_text("kept")
        case "folder":
            path.mkdir()
        case _:
            (tmp_path / "goal").write_text("kept")
            path.symlink_to(tmp_path / "goal")
    with pytest.raises(PlatformError, match="path exists and is not a socket"):
        bound(parse_endpoint(f"unix://{path}"))
    assert os.path.lexists(path)


def test_directory_that_cannot_be_created_is_reported(tmp_path: Path) -> None:
    """The message contains the error of the system."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(
        PlatformError, match=r"failed to listen on .*: (Not a directory|File exists)"
    ):
        bound(parse_endpoint(f"unix://{tmp_path}/file/csi.sock"))


def test_failed_bind_leaves_no_file_and_keeps_the_existing_socket(tmp_path: Path) -> None:
    """The hidden directory is removed; the socket of the previous process stays."""
    endpoint = parse_endpoint(f"unix://{tmp_path}/csi.sock")

    def fail(_: str) -> None:
        raise RuntimeError

    with bound(endpoint):
        with pytest.raises(RuntimeError):
            bind_private(endpoint, fail)
        assert [tmp_path / "csi.sock"] == list(tmp_path.iterdir())


def test_path_of_maximum_length_is_bound(tmp_path: Path) -> None:
    """The hidden directory does not make the path longer."""
    room = MAX_SOCKET_PATH_BYTES - len(os.fsencode(tmp_path)) - 1
    path = tmp_path / ("x" * room)
    with bound(parse_endpoint(f"unix://{path}")), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_socket_of_another_process_is_not_removed(tmp_path: Path) -> None:
    """A draining driver must not remove the socket of the next one."""
    endpoint = parse_endpoint(f"unix://{tmp_path}/csi.sock")
    made: list[socket.socket] = []

    def bind(address: str) -> None:
        made.append(socket.socket(socket.AF_UNIX))
        made[-1].bind(address.removeprefix("unix:"))

    first, second = bind_private(endpoint, bind), bind_private(endpoint, bind)
    assert first is not None
    assert second is not None
    assert (False, True) == (first.is_current(), second.is_current())
    first.remove()
    assert second.is_current()
    second.remove()
    assert [] == list(tmp_path.iterdir())
    for each in made:
        each.close()


def test_path_that_is_too_long_for_a_socket_is_rejected(tmp_path: Path) -> None:
    """The limit of the kernel is 107 bytes; gRPC would report only a failed bind."""
    endpoint = parse_endpoint(f"unix://{tmp_path}/{'x' * 107}.sock")

    with pytest.raises(PlatformError, match="at most 107 bytes"):
        bind_private(endpoint, lambda address: address)
