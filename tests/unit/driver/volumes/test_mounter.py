"""keyferry.driver.volumes.mounter: volumes come and go whole, and nothing of others is touched."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from keyferry.content import SecretFile
from keyferry.driver.volumes import mounter
from keyferry.driver.volumes.atomic_writer import write_volume
from keyferry.driver.volumes.mounter import DirectoryMounter, Mounter, TmpfsMounter
from keyferry.driver.volumes.state import VolumeState
from keyferry.errors import VolumeError
from keyferry.formats.volume_paths import MAX_ENTRIES, MAX_FILES
from keyferry.isolation.sandbox import MOUNT_SOURCE
from keyferry.process import can_mount
from tests.fakes.descriptors import spare_descriptors
from tests.fakes.mounts import (
    mount_broken,
    mount_options,
    mount_tmpfs,
    mounted_below,
    unmount_below,
)
from tests.unit.driver.volumes.test_trees import (
    BEYOND_RECURSION,
    make_nested_folders,
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


def test_volume_is_mounted_written_and_unmounted(mounts: Mounter, target: Path) -> None:
    """Only the parent folder stays."""
    assert VolumeState.ABSENT is mounts.inspect(target)
    mounts.mount(target)
    assert mounts.inspect(target) in (VolumeState.EMPTY, VolumeState.ABSENT)
    write_volume(target, (FILE,))
    assert VolumeState.WRITTEN is mounts.inspect(target)
    mounts.unmount(target)
    assert VolumeState.ABSENT is mounts.inspect(target)
    assert [] == list(target.parent.iterdir())


def test_repeated_mount_keeps_the_content(mounts: Mounter, target: Path) -> None:
    """It finds the mounted volume."""
    written(mounts, target)
    mounts.mount(target)
    assert b"x" == (target / "a").read_bytes()
    mounts.unmount(target)
    assert not target.exists()


def test_repeated_unmount_is_a_no_op(mounts: Mounter, target: Path) -> None:
    """Nothing is mounted."""
    mounts.unmount(target)
    written(mounts, target)
    mounts.unmount(target)
    mounts.unmount(target)
    assert not target.exists()


def test_unmount_can_keep_the_folder(mounts: Mounter, target: Path) -> None:
    """It is empty."""
    target.mkdir(parents=True)
    written(mounts, target)
    mounts.unmount(target, keep_folder=True)
    assert [] == list(target.iterdir())


def test_empty_folder_is_mounted(mounts: Mounter, target: Path) -> None:
    """It need not be removed first."""
    target.mkdir(parents=True)
    assert VolumeState.ABSENT is mounts.inspect(target)
    written(mounts, target)
    assert VolumeState.WRITTEN is mounts.inspect(target)


def test_folder_with_other_content_is_rejected(mounts: Mounter, target: Path) -> None:
    """It is not mounted over, emptied or removed; the message names it."""
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
def test_target_that_is_not_a_folder_is_rejected(mounts: Mounter, target: Path, kind: str) -> None:
    """A mount or a removal would follow a link."""
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
def test_impossible_target_is_a_volume_error(mounts: Mounter, mount_home: Path, name: str) -> None:
    """With the reason of the operating system."""
    (mount_home / "file").write_text("x")
    for step in (mounts.inspect, mounts.mount, mounts.unmount):
        with pytest.raises(
            VolumeError, match=r"failed to .*: (Not a directory|File name too long)"
        ):
            step(mount_home / name)


def test_link_inside_the_volume_is_not_followed(mounts: Mounter, target: Path) -> None:
    """Its destination stays."""
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


def test_volume_that_is_deeper_than_python_recurses_is_unmounted(
    mounts: Mounter, target: Path
) -> None:
    """An earlier version wrote such volumes; the pod would stay in Terminating."""
    written(mounts, target)
    make_nested_folders(target / "..data", BEYOND_RECURSION)
    mounts.unmount(target)
    assert not target.exists()


# --- a private folder -----------------------------------------------------------------------------


def test_private_folder_is_accessible_to_its_owner_only(target: Path) -> None:
    """Also an existing one with other permissions."""
    DirectoryMounter().mount(target)
    assert 0o700 == stat.S_IMODE(target.stat().st_mode)
    target.chmod(0o755)
    DirectoryMounter().mount(target)
    assert 0o700 == stat.S_IMODE(target.stat().st_mode)


# --- a tmpfs --------------------------------------------------------------------------------------


@pytest.mark.mounts
def test_tmpfs_has_our_source_and_safe_options(target: Path) -> None:
    """No devices and no set-user-id; pods with any user may read it."""
    TmpfsMounter().mount(target)
    options, kind, source = mount_options(target)
    assert ("tmpfs", MOUNT_SOURCE) == (kind, source)
    assert {"nosuid", "nodev", "noexec"} <= set(options.split(","))
    assert 0o755 == stat.S_IMODE(target.stat().st_mode)


@pytest.mark.mounts
def test_tmpfs_has_room_for_two_sets_of_the_largest_files(target: Path) -> None:
    """As many small files as a volume may have, and as many bytes, in old and new content."""
    limit = 1 << 20
    TmpfsMounter(limit).mount(target)
    space = os.statvfs(target)
    size = space.f_blocks * space.f_frsize
    assert 2 * (limit + MAX_FILES * 4096) <= size <= 2 * limit + 5 * MAX_FILES * 4096
    assert 2 * MAX_ENTRIES < space.f_files <= 4 * MAX_ENTRIES
    for text in ("1", "2"):
        small = [SecretFile(f"d{n}/{n}", 0o644, text.encode()) for n in range(MAX_FILES)]
        write_volume(target, small)
    write_volume(target, [SecretFile("large", 0o644, b"x" * limit)])
    write_volume(target, [SecretFile("large", 0o644, b"y" * limit)])
    TmpfsMounter().unmount(target)


@pytest.mark.mounts
def test_full_tmpfs_names_the_flag_and_keeps_its_files(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A provider that ignores the limit cannot use up the memory of the node."""
    monkeypatch.setattr(mounter, "MAX_FILES", 1)
    TmpfsMounter(4096).mount(target)
    write_volume(target, (FILE,))
    with pytest.raises(VolumeError, match="No space left on device") as caught:
        write_volume(target, [SecretFile("large", 0o644, b"x" * 100_000)])
    assert "--max-call-recv-msg-size" in caught.value.remedy
    assert b"x" == (target / "a").read_bytes()
    assert not (target / "large").exists()


@pytest.mark.mounts
def test_tmpfs_and_its_files_belong_to_the_group(target: Path) -> None:
    """The fsGroup of the pod, which kubelet delegates to the driver."""
    # In a user namespace there may be no other group than one's own.
    group = 5678 if "4294967295" in Path("/proc/self/gid_map").read_text() else 0
    TmpfsMounter().mount(target, group)
    write_volume(target, (FILE,))
    assert (group, 0o2755) == (target.stat().st_gid, stat.S_IMODE(target.stat().st_mode))
    assert group == (target / FILE.path).stat().st_gid


@pytest.mark.mounts
def test_empty_tmpfs_has_no_content(target: Path) -> None:
    """As after a crash between mount and write."""
    TmpfsMounter().mount(target)
    assert VolumeState.EMPTY is TmpfsMounter().inspect(target)
    (target / "..2020_01_01_00_00_00.1").mkdir()
    (target / "a").symlink_to("..data/a")
    assert VolumeState.EMPTY is TmpfsMounter().inspect(target)


@pytest.mark.mounts
def test_files_of_a_legacy_provider_have_their_own_state(target: Path) -> None:
    """They may be incomplete."""
    TmpfsMounter().mount(target)
    (target / "a").write_text("x")
    assert VolumeState.PROVIDER_WRITTEN is TmpfsMounter().inspect(target)


@pytest.mark.mounts
def test_tmpfs_of_another_program_is_rejected(target: Path) -> None:
    """For example /dev/shm."""
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
def test_volume_of_another_driver_at_a_kubelet_path_is_taken_over(
    mount_home: Path,
) -> None:
    """A node may have run upstream before."""
    target = mount_home / KUBELET
    target.mkdir(parents=True)
    mount_tmpfs(target)
    write_volume(target, (FILE,))
    assert VolumeState.WRITTEN is TmpfsMounter().inspect(target)
    TmpfsMounter().unmount(target)
    assert not target.exists()
    assert [] == mounted_below(mount_home)


@pytest.mark.mounts
def test_files_below_a_kubelet_mount_are_removed(mount_home: Path) -> None:
    """They would keep the pod in Terminating."""
    target = mount_home / KUBELET
    target.mkdir(parents=True)
    (target / "leftover").write_text("x")
    assert VolumeState.ABSENT is TmpfsMounter().inspect(target)
    written(TmpfsMounter(), target)
    TmpfsMounter().unmount(target)
    assert not target.exists()


@pytest.mark.mounts
def test_similar_path_is_not_a_kubelet_path(mount_home: Path) -> None:
    """The complete suffix must match."""
    target = mount_home / "pods/11/volumes/kubernetes.io~csi/secrets/mount/more"
    target.mkdir(parents=True)
    (target / "precious").write_text("kept")
    with pytest.raises(VolumeError):
        TmpfsMounter().unmount(target)
    assert "kept" == (target / "precious").read_text()


@pytest.mark.mounts
def test_stacked_mounts_are_all_unmounted(target: Path) -> None:
    """As of two processes that mounted concurrently."""
    mounts = TmpfsMounter()
    written(mounts, target)
    mount_tmpfs(target, source=MOUNT_SOURCE)
    write_volume(target, (FILE,))
    assert [str(target), str(target)] == mounted_below(target.parent)
    mounts.unmount(target)
    assert [] == mounted_below(target.parent)
    assert not target.exists()


@pytest.mark.mounts
def test_volume_in_use_is_unmounted(target: Path) -> None:
    """A process that uses it must not keep the pod in Terminating."""
    written(TmpfsMounter(), target)
    with (target / "a").open("rb") as held:
        TmpfsMounter().unmount(target)
        assert not target.exists()
        assert b"x" == held.read()


@pytest.mark.mounts
def test_volume_is_unmounted_even_if_it_cannot_be_emptied(mount_home: Path) -> None:
    """Neither a mount inside it nor a lack of descriptors keeps the pod in Terminating."""
    target = mount_home / KUBELET
    mounts = TmpfsMounter()
    written(mounts, target)
    (target / "inner").mkdir()
    mount_tmpfs(target / "inner")
    mounts.unmount(target)
    assert not target.exists()
    written(mounts, target)
    with spare_descriptors(0):
        mounts.unmount(target)
    assert not target.exists()
    assert [] == mounted_below(mount_home)


@pytest.mark.fuse
def test_unresponsive_mount_is_replaced_and_removed(target: Path) -> None:
    """Every access to it fails."""
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
def test_broken_mount_of_another_program_is_rejected(target: Path) -> None:
    """It is not managed by Keyferry."""
    target.mkdir(parents=True)
    mount_broken(target, "foreign")
    for step in (TmpfsMounter().inspect, TmpfsMounter().mount, TmpfsMounter().unmount):
        with pytest.raises(VolumeError, match="is not a volume of Keyferry"):
            step(target)
    assert [str(target)] == mounted_below(target.parent)


@pytest.mark.mounts
def test_target_path_with_spaces_and_backslashes(
    mount_home: Path,
) -> None:
    """The kernel escapes them in the mount table."""
    target = mount_home / "a b\tc\\d\ne" / "vol ume"
    written(TmpfsMounter(), target)
    assert VolumeState.WRITTEN is TmpfsMounter().inspect(target)
    TmpfsMounter().unmount(target)
    assert not target.exists()


@pytest.mark.mounts
def test_can_mount_agrees_with_the_kernel(target: Path) -> None:
    """A mount succeeds where it returns True."""
    assert can_mount()
    TmpfsMounter().mount(target)
    unmount_below(target.parent)
    assert VolumeState.ABSENT is TmpfsMounter().inspect(target)


WITHOUT_RIGHTS = """
import ctypes, pathlib, sys
from keyferry.driver.volumes.mounter import TmpfsMounter
from keyferry.process import can_mount
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


def test_mount_without_permission_is_reported(target: Path) -> None:
    """The message names step, path and the missing permission."""
    command = [sys.executable, "-c", WITHOUT_RIGHTS, str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=200)
    assert done.stdout == (
        f"failed to mount a tmpfs at {target}: Operation not permitted. "
        "Check the permissions of the folder; the driver needs the right to mount."
    )
