"""A driver without privileges: volumes are private folders, everything else is unchanged."""

from __future__ import annotations

import pwd
import shutil
import stat
import tempfile
from collections.abc import Iterator
from os import chown
from pathlib import Path

import pytest
from grpc.aio import AioRpcError

from keyferry_devvault.client import DevRedirect
from keyferry_devvault.request_log import RequestLog
from keyferry_devvault.storage.data import DevVaultData
from tests.e2e.children import ending_children
from tests.e2e.node import MACHINE, Node
from tests.fakes.devvault import DevVault
from tests.fakes.mounts import mounted_below

AS_NOBODY = str(Path(__file__).with_name("as_nobody.py"))
NOBODY = pwd.getpwnam("nobody")


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder for `nobody`; only root can enter pytest's temporary folder."""
    folder = Path(tempfile.mkdtemp(prefix="keyferry-e2e-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


async def test_driver_without_privileges_keeps_volumes_in_private_folders(
    home: Path, tmp_path: Path
) -> None:
    """Publish, read and unpublish as `nobody`; the log warns that the files are on disk.

    It cannot give files to another user: an error of the driver, a warning of `keyferry mount`.
    """
    async with ending_children(tmp_path / "output") as children:
        with DevVaultData(home / "devvault") as data:
            vault = DevVault(
                data, RequestLog(), DevRedirect(("127.0.0.1", 1), ("127.0.0.1", 1), home)
            )
            vault.add_managed_identity(MACHINE)
            vault.set_secret("contoso", "db-password", "s3cret")
            vault.grant("contoso", MACHINE)
            node = Node(home, children, vault)
            node.write_class("shop", {"db-password": "db"}, secret="db")
            owned = {"db-password": {"fileOwner": "999", "filePermission": "0400"}}
            node.write_class("owned", {"db-password": "db"}, fields=owned)
            volume, other = node.volume("shop"), node.volume("owned")
        hand_over(home)
        vault_run = ("devvault", "run", "--data", str(home / "devvault"))
        await children.start("vault", "python", AS_NOBODY, *vault_run).says("listens")
        flags = (*node.driver_flags(), "--volumes=folder", "--isolation=none")
        child = children.start("driver", "python", AS_NOBODY, "driver", *flags)
        driver = await node.reach(child)
        await child.says("volumes are private folders on disk")

        await driver.publish(volume)
        assert {"db": (0o644, b"s3cret")} == volume.files()
        assert {"db-password": b"s3cret"} == node.secret("db")
        assert (NOBODY.pw_uid, 0o700) == owner_and_mode(volume.path)
        assert [] == mounted_below(home)
        await driver.unpublish(volume)
        assert [] == node.left_overs(volume)
        assert None is node.secret("db")

        with pytest.raises(AioRpcError, match="cannot give 'db' to fileOwner 999: Operation not"):
            await driver.publish(other)
        assert [] == node.left_overs(other)
        await driver.stop()

        target = home / "files"
        words = (
            str(node.manifests / "owned.yaml"),
            str(target),
            "--dev-vault",
            str(home / "devvault"),
        )
        output = await children.run("mount", "python", AS_NOBODY, "mount", *words)
        assert (
            "warning: fileOwner has no effect: only root can give files to another user, so db"
            f" belongs to user {NOBODY.pw_uid}"
        ) in output
        assert (NOBODY.pw_uid, 0o400) == owner_and_mode(target / "db")
        assert b"s3cret" == (target / "db").read_bytes()


def hand_over(folder: Path) -> None:
    """Make `nobody` the owner of `folder` and everything below it."""
    for path in (folder, *folder.rglob("*")):
        chown(path, NOBODY.pw_uid, NOBODY.pw_gid)


def owner_and_mode(path: Path) -> tuple[int, int]:
    """Return the user id of the owner, and the mode."""
    status = path.stat()
    return status.st_uid, stat.S_IMODE(status.st_mode)
