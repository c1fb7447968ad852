"""The image of `make image`, built from the packages of Debian and run with chroot."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from keyferry import __version__
from keyferry.records import replace
from scripts.image.build import default_cache, native_architecture
from scripts.image.debian import ROOT, Apt, Package, PackagesError, locked_packages

_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
BUILD_TOOLS = {"hatchling", "pip", "setuptools", "tomlkit", "wheel", "ensurepip", "distutils"}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive, as the command writes it."""
    path = tmp_path_factory.mktemp("image") / "keyferry.oci.tar"
    build(path)
    return path


@pytest.fixture(scope="module")
def root(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked root file system."""
    layout, unpacked = archive.parent / "layout", tmp_path_factory.mktemp("root")
    shutil.unpack_archive(archive, layout, filter="data")
    for layer in json.loads(named(layout, top(layout)))["layers"]:
        blob = layout / "blobs" / layer["digest"].replace(":", "/")
        with tarfile.open(blob) as opened:
            opened.extractall(unpacked, filter="tar")
    return unpacked


def build(path: Path) -> str:
    """Run the command of `make image`; return the digest."""
    command = [sys.executable, "-m", "scripts.image", "build", "--newer", f"--output={path}"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert 0 == run.returncode, run.stderr
    return run.stdout.splitlines()[-1]


def top(layout: Path) -> str:
    (manifest,) = json.loads((layout / "index.json").read_text())["manifests"]
    return str(manifest["digest"])


def named(layout: Path, digest: str) -> str:
    return (layout / "blobs" / digest.replace(":", "/")).read_text()


def run_in(root: Path, *command: str) -> str:
    run = subprocess.run(
        ["chroot", root, *command], capture_output=True, text=True, check=False, env=_ENVIRONMENT
    )
    assert 0 == run.returncode, run.stderr
    return run.stdout


def test_the_entry_point_runs(archive: Path, root: Path) -> None:
    """As root, like the images of upstream, with the labels of the release."""
    layout = archive.parent / "layout"
    config = json.loads(named(layout, json.loads(named(layout, top(layout)))["config"]["digest"]))
    entry = config["config"]["Entrypoint"]
    assert f"{__version__}\n" == run_in(root, *entry, "--version")
    assert f"{__version__}\n" == run_in(root, "/usr/local/bin/keyferry", "--version")
    assert "0:0" == config["config"]["User"]
    labels = config["config"]["Labels"]
    assert __version__ == labels["org.opencontainers.image.version"]
    assert "Apache-2.0" == labels["org.opencontainers.image.licenses"]
    assert {"source", "revision"} <= {name.rpartition(".")[2] for name in labels}


def test_every_module_of_the_driver_can_be_imported(root: Path) -> None:
    """And TLS knows the certificate authorities of Debian."""
    program = """
import importlib, pkgutil, ssl, keyferry
for each in pkgutil.walk_packages(keyferry.__path__, "keyferry."):
    if each.name != "keyferry.__main__":
        importlib.import_module(each.name)
print(len(ssl.create_default_context().get_ca_certs()))
"""
    assert int(run_in(root, "/usr/bin/python3.11", "-I", "-B", "-c", program)) > 100


def test_every_library_is_found_in_the_image(root: Path) -> None:
    """That of each extension module and of Python itself."""
    (loader,) = (f"/{each.relative_to(root)}" for each in root.glob("lib*/ld-linux-*.so.*"))
    programs = [path for path in root.rglob("*.so*") if path.is_file() and not path.is_symlink()]
    assert len(programs) > 50
    for path in (*programs, root / "usr/bin/python3.11"):
        listed = subprocess.run(
            ["chroot", root, loader, "--list", f"/{path.relative_to(root)}"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert "not found" not in listed.stdout + listed.stderr, path


def test_there_is_no_shell_and_nothing_that_installs_or_compiles(root: Path) -> None:
    """The only program is Python."""
    programs = {
        path.relative_to(root).as_posix()
        for path in root.rglob("*")
        if path.is_file() and not path.is_symlink() and path.stat().st_mode & 0o111
        if not path.name.startswith("ld-linux")
    }
    assert {"usr/bin/python3.11", "usr/local/bin/keyferry"} == programs
    packages = {path.name.partition("-")[0] for path in root.glob("usr/**/python3*/**/*")}
    assert not packages & BUILD_TOOLS


def test_files_belong_to_root_and_only_root_can_write(root: Path) -> None:
    """No file gives its user the rights of another."""
    for path in root.rglob("*"):
        status = path.lstat()
        assert (0, 0) == (status.st_uid, status.st_gid), path
        if path.is_symlink() or path == root / "tmp":
            continue
        assert not status.st_mode & 0o7022, path


def test_modules_are_compiled(root: Path) -> None:
    """Because the root file system of the container is read-only, and the start shall be fast."""
    for folder in ("usr/lib/python3.11", "usr/local/lib/python3.11/dist-packages/keyferry"):
        for module in (root / folder).rglob("*.py"):
            assert (module.parent / "__pycache__" / f"{module.stem}.cpython-311.pyc").exists()


def test_scanners_find_the_debian_packages(root: Path) -> None:
    """In the place that they know from images without dpkg."""
    found = {path.name: path.read_text() for path in (root / "var/lib/dpkg/status.d").iterdir()}
    assert {each.name for each in locked_packages(native_architecture())} == found.keys()
    assert "Status: install ok installed" in found["libc6"]
    assert "Version: 2.36-" in found["libc6"]
    assert "ID=debian" in (root / "usr/lib/os-release").read_text()


def test_the_same_inputs_give_the_same_digest(archive: Path, tmp_path: Path) -> None:
    """In another cache with the same downloads, so every layer is built again."""
    cache = tmp_path / "cache"
    shutil.copytree(default_cache() / "debian", cache / "debian")
    for wheels in (default_cache() / "image").glob("wheels-*"):
        shutil.copytree(wheels, cache / "image" / wheels.name)
    first = top(archive.parent / "layout")
    command = [sys.executable, "-m", "scripts.image", "build", "--newer"]
    run = subprocess.run(
        [*command, f"--output={tmp_path}/again.tar"],
        cwd=ROOT,
        env=os.environ | {"KEYFERRY_CACHE": str(cache)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert first == run.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def apt(tmp_path_factory: pytest.TempPathFactory) -> Apt:
    """A package manager with an empty cache."""
    return Apt(tmp_path_factory.mktemp("apt"), native_architecture())


def test_a_package_with_another_hash_is_refused(apt: Apt) -> None:
    """Also if the archive is signed."""
    wrong = replace(apt.newest("zlib1g"), sha256="0" * 64)
    with pytest.raises(PackagesError, match=r"expected: zlib1g .* sha256:0000"):
        apt.file_of(wrong)
    with pytest.raises(PackagesError):  # it is not in the cache either
        apt.file_of(wrong)


def test_a_version_that_debian_has_replaced_is_an_error_with_a_remedy(apt: Apt) -> None:
    """`--newer` takes the current one instead."""
    old = Package("zlib1g", "1:0.9", native_architecture(), "0" * 64)
    with pytest.raises(PackagesError, match="update the lock file: make lock-image"):
        apt.file_of(old)
    assert apt.newest("zlib1g") == apt.file_or_newer(old)[0]
