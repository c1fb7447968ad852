"""keyferry.driver.volumes.mounter: volumes come and go whole, and nothing of others is touched."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from keyferry.content import SecretFile
from keyferry.driver.volumes.atomic_writer import write_volume
from keyferry.driver.volumes.mounter import (
    MOUNT_SOURCE,
    DirectoryMounter,
    Mounter,
    TmpfsMounter,
    can_mount,
)
from keyferry.driver.volumes.state import VolumeState
from keyferry.errors import VolumeError
from tests.fakes.mounts import (
    mount_broken,
    mount_options,
    mount_tmpfs,
    mounted_below,
    unmount_below,
)

FILE = SecretFile("a", 0o644, b"x")


@pytest.fixture(params=["folder", pytest.param("tmpfs", marks=pytest.mark.mounts)])
def mounts(request: pytest.FixtureRequest) -> Mounter:
    """Each way of keeping the files of volumes."""
    return DirectoryMounter() if request.param == "folder" else TmpfsMounter()


@pytest.fixture
def target(mount_home: Path) -> Path:
    """Where the volume goes; its folders do not exist yet."""
    return mount_home / "pods" / "volume"


def written(mounts: Mounter, target: Path) -> Path:
    """A volume with one file."""
    mounts.mount(target)
    write_volume(target, (FILE,))
    return target


# --- both ways ------------------------------------------------------------------------------------


def test_a_volume_comes_and_goes(mounts: Mounter, target: Path) -> None:
    """Absent, mounted, written, gone; nothing but the parent folder stays."""
    assert VolumeState.ABSENT is mounts.inspect(target)
    mounts.mount(target)
    assert mounts.inspect(target) in (VolumeState.EMPTY, VolumeState.ABSENT)
    write_volume(target, (FILE,))
    assert VolumeState.WRITTEN is mounts.inspect(target)
    mounts.unmount(target)
    assert VolumeState.ABSENT is mounts.inspect(target)
    assert [] == list(target.parent.iterdir())


def test_mounting_twice_keeps_the_content(mounts: Mounter, target: Path) -> None:
    """A repeated call finds the volume that is there."""
    written(mounts, target)
    mounts.mount(target)
    assert b"x" == (target / "a").read_bytes()
    mounts.unmount(target)
    assert not target.exists()


def test_unmounting_twice_is_fine(mounts: Mounter, target: Path) -> None:
    """Nothing there is what was wanted."""
    mounts.unmount(target)
    written(mounts, target)
    mounts.unmount(target)
    mounts.unmount(target)
    assert not target.exists()


def test_a_folder_that_was_there_before_can_stay(mounts: Mounter, target: Path) -> None:
    """It is left, empty."""
    target.mkdir(parents=True)
    written(mounts, target)
    mounts.unmount(target, keep_folder=True)
    assert [] == list(target.iterdir())


def test_an_empty_folder_is_room_for_a_volume(mounts: Mounter, target: Path) -> None:
    """Whoever made it need not remove it first."""
    target.mkdir(parents=True)
    assert VolumeState.ABSENT is mounts.inspect(target)
    written(mounts, target)
    assert VolumeState.WRITTEN is mounts.inspect(target)


def test_a_folder_with_content_of_others_is_left_alone(mounts: Mounter, target: Path) -> None:
    """It is neither hidden nor emptied nor removed, and the message says which folder it is."""
    target.mkdir(parents=True)
    (target / "thesis.txt").write_text("precious")
    for step in (mounts.inspect, mounts.mount):
        with pytest.raises(VolumeError, match=r"folder .*/volume is not empty") as caught:
            step(target)
        assert "Choose an empty folder, or one that does not exist yet" in str(caught.value)
    with pytest.raises(VolumeError, match=str(target)):
        mounts.unmount(target)
    assert "precious" == (target / "thesis.txt").read_text()


@pytest.mark.parametrize("kind", ["link", "dangling link", "file"])
def test_a_target_that_is_no_folder_is_refused(mounts: Mounter, target: Path, kind: str) -> None:
    """A link would lead a mount, or a removal, elsewhere."""
    goal = target.parent / "goal"
    goal.mkdir(parents=True)
    if kind == "file":
        target.write_text("x")
    else:
        target.symlink_to(goal if kind == "link" else target.parent / "nowhere")
    for step in (mounts.inspect, mounts.mount, mounts.unmount):
        with pytest.raises(VolumeError, match=r"the target .*/volume is not a folder"):
            step(target)
    assert [] == list(goal.iterdir())
    assert os.path.lexists(target)
    assert [] == mounted_below(target.parent)


@pytest.mark.parametrize("name", ["file/volume", "x" * 300])
def test_a_target_that_cannot_be_is_an_error_of_the_volume(
    mounts: Mounter, mount_home: Path, name: str
) -> None:
    """The system's reason is told, whichever step meets it."""
    (mount_home / "file").write_text("x")
    for step in (mounts.inspect, mounts.mount, mounts.unmount):
        with pytest.raises(
            VolumeError, match=r"failed to .*: (Not a directory|File name too long)"
        ):
            step(mount_home / name)


def test_a_link_inside_the_volume_is_removed_and_not_followed(
    mounts: Mounter, target: Path
) -> None:
    """What it leads to stays."""
    written(mounts, target)
    outside = target.parent / "outside"
    outside.mkdir()
    (outside / "precious").write_text("kept")
    (target / "a").unlink()
    (target / "a").symlink_to("..data/a")
    (target / "..data").unlink()
    (target / "..data").symlink_to(outside)
    mounts.unmount(target)
    assert not target.exists()
    assert "kept" == (outside / "precious").read_text()


# --- a private folder -----------------------------------------------------------------------------


def test_a_private_folder_is_for_its_owner_only(target: Path) -> None:
    """Also one that was there with other permissions."""
    DirectoryMounter().mount(target)
    assert 0o700 == stat.S_IMODE(target.stat().st_mode)
    target.chmod(0o755)
    DirectoryMounter().mount(target)
    assert 0o700 == stat.S_IMODE(target.stat().st_mode)


# --- a tmpfs --------------------------------------------------------------------------------------


@pytest.mark.mounts
def test_a_tmpfs_bears_our_name_and_takes_no_devices_or_set_user_id_files(target: Path) -> None:
    """The source tells our mounts from those of others; pods may read it whatever their user."""
    TmpfsMounter().mount(target)
    options, kind, source = mount_options(target)
    assert ("tmpfs", MOUNT_SOURCE) == (kind, source)
    assert {"nosuid", "nodev"} <= set(options.split(","))
    assert 0o755 == stat.S_IMODE(target.stat().st_mode)


@pytest.mark.mounts
def test_a_tmpfs_and_what_is_written_into_it_belong_to_a_group(target: Path) -> None:
    """The fsGroup of a pod, which kubelet leaves to the driver."""
    # In a user namespace there may be no other group than one's own.
    group = 5678 if "4294967295" in Path("/proc/self/gid_map").read_text() else 0
    TmpfsMounter().mount(target, group)
    write_volume(target, (FILE,))
    assert (group, 0o2755) == (target.stat().st_gid, stat.S_IMODE(target.stat().st_mode))
    assert group == (target / FILE.path).stat().st_gid


@pytest.mark.mounts
def test_an_empty_tmpfs_is_not_a_written_volume(target: Path) -> None:
    """What a crash between mount and write leaves is mounted anew, not accepted."""
    TmpfsMounter().mount(target)
    assert VolumeState.EMPTY is TmpfsMounter().inspect(target)
    (target / "..2020_01_01_00_00_00.1").mkdir()
    (target / "a").symlink_to("..data/a")
    assert VolumeState.EMPTY is TmpfsMounter().inspect(target)


@pytest.mark.mounts
def test_files_that_a_provider_wrote_itself_are_no_proof_that_all_are_there(target: Path) -> None:
    """Providers of the old style leave no layout."""
    TmpfsMounter().mount(target)
    (target / "a").write_text("x")
    assert VolumeState.PROVIDER_WRITTEN is TmpfsMounter().inspect(target)


@pytest.mark.mounts
def test_the_tmpfs_of_somebody_else_is_left_alone(target: Path) -> None:
    """As /dev/shm would be: nothing is written into it, emptied or unmounted."""
    target.mkdir(parents=True)
    mount_tmpfs(target)
    (target / "precious").write_text("kept")
    mounts = TmpfsMounter()
    for step in (mounts.inspect, mounts.mount, mounts.unmount):
        with pytest.raises(VolumeError, match="is not a volume of Keyferry, so it is not"):
            step(target)
    assert "kept" == (target / "precious").read_text()


KUBELET = "pods/11/volumes/kubernetes.io~csi/secrets/mount"


@pytest.mark.mounts
def test_the_volume_that_another_driver_mounted_for_kubelet_is_taken_over(
    mount_home: Path,
) -> None:
    """A node whose driver was upstream yesterday has such volumes."""
    target = mount_home / KUBELET
    target.mkdir(parents=True)
    mount_tmpfs(target)
    write_volume(target, (FILE,))
    assert VolumeState.WRITTEN is TmpfsMounter().inspect(target)
    TmpfsMounter().unmount(target)
    assert not target.exists()
    assert [] == mounted_below(mount_home)


@pytest.mark.mounts
def test_leftovers_in_a_folder_of_kubelet_go_with_the_volume(mount_home: Path) -> None:
    """Files that lay below the mount would keep the pod in Terminating for ever."""
    target = mount_home / KUBELET
    target.mkdir(parents=True)
    (target / "leftover").write_text("x")
    assert VolumeState.ABSENT is TmpfsMounter().inspect(target)
    written(TmpfsMounter(), target)
    TmpfsMounter().unmount(target)
    assert not target.exists()


@pytest.mark.mounts
def test_a_path_that_only_resembles_one_of_kubelet_is_nobodys(mount_home: Path) -> None:
    """The whole ending counts."""
    target = mount_home / "pods/11/volumes/kubernetes.io~csi/secrets/mount/more"
    target.mkdir(parents=True)
    (target / "precious").write_text("kept")
    with pytest.raises(VolumeError):
        TmpfsMounter().unmount(target)
    assert "kept" == (target / "precious").read_text()


@pytest.mark.mounts
def test_mounts_on_top_of_each_other_all_go(target: Path) -> None:
    """Two processes that mounted at once leave two layers."""
    mounts = TmpfsMounter()
    written(mounts, target)
    mount_tmpfs(target, source=MOUNT_SOURCE)
    write_volume(target, (FILE,))
    assert [str(target), str(target)] == mounted_below(target.parent)
    mounts.unmount(target)
    assert [] == mounted_below(target.parent)
    assert not target.exists()


@pytest.mark.mounts
def test_a_volume_in_use_goes_all_the_same(target: Path) -> None:
    """A process that still looks into it must not keep the pod in Terminating."""
    written(TmpfsMounter(), target)
    with (target / "a").open("rb") as held:
        TmpfsMounter().unmount(target)
        assert not target.exists()
        assert b"x" == held.read()


@pytest.mark.fuse
def test_a_mount_that_answers_no_more_is_broken_replaced_and_removable(target: Path) -> None:
    """Its server is gone, so every look into it fails."""
    mounts = TmpfsMounter()
    target.mkdir(parents=True)
    mount_broken(target, MOUNT_SOURCE)
    assert VolumeState.BROKEN is mounts.inspect(target)
    written(mounts, target)
    assert VolumeState.WRITTEN is mounts.inspect(target)
    mounts.unmount(target)
    assert not target.exists()
    target.mkdir()
    mount_broken(target, MOUNT_SOURCE)
    mounts.unmount(target)
    assert not target.exists()


@pytest.mark.fuse
def test_a_broken_mount_of_somebody_else_is_left_alone(target: Path) -> None:
    """An absent server does not make it ours."""
    target.mkdir(parents=True)
    mount_broken(target, "foreign")
    for step in (TmpfsMounter().inspect, TmpfsMounter().mount, TmpfsMounter().unmount):
        with pytest.raises(VolumeError, match="is not a volume of Keyferry"):
            step(target)
    assert [str(target)] == mounted_below(target.parent)


@pytest.mark.mounts
def test_a_target_path_with_blanks_and_backslashes_is_known_by_its_name(
    mount_home: Path,
) -> None:
    """The kernel escapes them in its list of mounts."""
    target = mount_home / "a b\tc\\d\ne" / "vol ume"
    written(TmpfsMounter(), target)
    assert VolumeState.WRITTEN is TmpfsMounter().inspect(target)
    TmpfsMounter().unmount(target)
    assert not target.exists()


@pytest.mark.mounts
def test_the_kernel_and_the_tests_agree_on_the_right_to_mount(target: Path) -> None:
    """Where the process says it can, it can."""
    assert can_mount()
    TmpfsMounter().mount(target)
    unmount_below(target.parent)
    assert VolumeState.ABSENT is TmpfsMounter().inspect(target)


@pytest.mark.namespace
def test_the_tests_of_the_tmpfs_pass_for_an_ordinary_user_in_a_namespace() -> None:
    """There an ordinary user has the right to mount, and an older kernel's limits."""
    namespace = ["unshare", "--user", "--map-root-user", "--mount"]
    tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    chosen = ["-m", "mounts"]
    done = subprocess.run(
        [*namespace, *tests, *chosen], capture_output=True, text=True, check=False, timeout=200
    )
    assert 0 == done.returncode, done.stdout


WITHOUT_RIGHTS = """
import ctypes, pathlib, sys
from keyferry.driver.volumes.mounter import TmpfsMounter, can_mount
from keyferry.errors import VolumeError
version, nothing = (ctypes.c_uint32 * 2)(0x20080522), (ctypes.c_uint32 * 6)()
assert ctypes.CDLL(None).capset(version, nothing) == 0
assert not can_mount()
try:
    TmpfsMounter().mount(pathlib.Path(sys.argv[1]))
except VolumeError as error:
    sys.stdout.write(str(error))
"""
"""A process that gives up all its capabilities and then mounts."""


def test_without_the_right_to_mount_the_kernel_says_so(target: Path) -> None:
    """The message names the step, the path and what is missing."""
    command = [sys.executable, "-c", WITHOUT_RIGHTS, str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=200)
    assert done.stdout == (
        f"failed to mount a tmpfs at {target}: Operation not permitted. "
        "Check the permissions of the folder; the driver needs the right to mount."
    )
