"""The parts of `make image` that need no network: lock file, wheels, layers and archive."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zipfile
from pathlib import Path

import pytest

from scripts.image import debian, oci, wheels
from scripts.image.__main__ import default_name
from tests.unit.test_locks import ROOT


def layer(text: str) -> oci.Layer:
    return oci.Layer(gzip.compress(text.encode(), mtime=0), comment=text)


def image(architecture: str = "amd64") -> oci.Image:
    return oci.Image(architecture, (layer("a"), layer("b")), {"User": "0:0"}, epoch=1_700_000_000)


def files_of(archive: Path) -> dict[str, bytes]:
    with tarfile.open(archive) as opened:
        members = {entry.name: opened.extractfile(entry) for entry in opened if entry.isreg()}
        return {name: file.read() for name, file in members.items() if file is not None}


def blob(files: dict[str, bytes], digest: object) -> bytes:
    content = files[f"blobs/{str(digest).replace(':', '/')}"]
    assert digest == oci.digest_of(content)
    return content


def test_every_package_of_the_image_is_locked_for_each_architecture() -> None:
    """Exactly once, by its hash."""
    for architecture in debian.ARCHITECTURES:
        names = [package.name for package in debian.locked_packages(architecture)]
        assert sorted(debian.wanted_names()) == sorted(names)


def test_another_distribution_is_refused_with_both_ways_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its packages would make another image."""
    monkeypatch.delenv("KEYFERRY_APT_SOURCES", raising=False)
    described = tmp_path / "os-release"
    described.write_text('ID=ubuntu\nVERSION_ID="24.04"\n')
    with pytest.raises(debian.PackagesError, match=r"KEYFERRY_APT_SOURCES .*podman build \."):
        debian.must_be_debian(described)
    described.write_text('ID=debian\nVERSION_ID="12"\n')
    debian.must_be_debian(described)


def test_the_image_contains_no_shell_and_no_package_manager() -> None:
    """Neither do the packages that are locked bring one as a dependency: none is resolved."""
    forbidden = {"apt", "bash", "busybox-static", "coreutils", "dash", "dpkg", "perl-base"}
    assert not forbidden & set(debian.wanted_names())
    assert not [name for name in debian.wanted_names() if "pip" in name or "setuptools" in name]


def test_an_archive_of_one_platform_is_an_image_layout_and_readable_by_docker(
    tmp_path: Path,
) -> None:
    """Both name the same blobs."""
    digest = oci.write_archive(tmp_path / "a.tar", "registry.example/keyferry:v1", [image()])
    files = files_of(tmp_path / "a.tar")
    (top,) = json.loads(files["index.json"])["manifests"]
    assert digest == top["digest"]
    assert "registry.example/keyferry:v1" == top["annotations"]["io.containerd.image.name"]
    manifest = json.loads(blob(files, digest))
    config = json.loads(blob(files, manifest["config"]["digest"]))
    contents = [gzip.decompress(blob(files, each["digest"])) for each in manifest["layers"]]
    assert [b"a", b"b"] == contents
    assert [oci.digest_of(content) for content in contents] == config["rootfs"]["diff_ids"]
    assert "2023-11-14T22:13:20Z" == config["created"]
    (docker,) = json.loads(files["manifest.json"])
    assert ["registry.example/keyferry:v1"] == docker["RepoTags"]
    assert files[docker["Config"]] == blob(files, manifest["config"]["digest"])
    assert {*docker["Layers"], docker["Config"]} <= files.keys()


def test_an_archive_of_two_platforms_has_an_index(tmp_path: Path) -> None:
    """Its digest is that of the index, which names both."""
    images = [image("amd64"), image("arm64")]
    digest = oci.write_archive(tmp_path / "a.tar", "registry.example/keyferry:v1", images)
    files = files_of(tmp_path / "a.tar")
    index = json.loads(blob(files, digest))
    assert ["amd64", "arm64"] == [each["platform"]["architecture"] for each in index["manifests"]]
    for each in index["manifests"]:
        config = json.loads(blob(files, each["digest"]))["config"]["digest"]
        architecture = json.loads(blob(files, config))["architecture"]
        assert each["platform"]["architecture"] == architecture


def test_the_same_image_gives_the_same_bytes(tmp_path: Path) -> None:
    """Nothing depends on the time or on the order of files in a folder."""
    for name in ("a.tar", "b.tar"):
        oci.write_archive(tmp_path / name, "registry.example/keyferry:v1", [image()])
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
    packed = set()
    for order in ("xy", "yx"):
        folder = tmp_path / order
        folder.mkdir()
        for name in order:
            (folder / name).write_text(name)
        packed.add(oci.pack_folder(folder))
    assert 1 == len(packed)


def test_files_of_a_layer_belong_to_root_and_have_no_time(tmp_path: Path) -> None:
    """Hard links of this machine are files of their own."""
    (tmp_path / "a").write_text("content")
    (tmp_path / "b").hardlink_to(tmp_path / "a")
    (tmp_path / "c").symlink_to("/a")
    with tarfile.open(fileobj=io.BytesIO(oci.pack_folder(tmp_path))) as archive:
        entries = archive.getmembers()
        assert [b"content"] * 2 == [archive.extractfile(name).read() for name in "ab"]  # type: ignore[union-attr]
    assert {(0, 0, "", "", 0)} == {
        (each.uid, each.gid, each.uname, each.gname, each.mtime) for each in entries
    }
    assert "/a" == entries[2].linkname


def test_a_wheel_is_unpacked_without_scripts(tmp_path: Path) -> None:
    """The folders of its data that hold packages are packages; the others are left out."""
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as archive:
        for name in ("a/__init__.py", "a-1.data/purelib/b.py", "a-1.data/scripts/run"):
            archive.writestr(name, "")
    wheels.unpack(tmp_path / "a.whl", tmp_path / "packages")
    found = [path for path in (tmp_path / "packages").rglob("*") if path.is_file()]
    names = {path.relative_to(tmp_path / "packages").as_posix() for path in found}
    assert {"a/__init__.py", "b.py"} == names


@pytest.mark.parametrize("name", ["../evil.py", "/evil.py", "a-1.data/purelib/../../evil.py"])
def test_a_wheel_cannot_write_outside_its_folder(name: str, tmp_path: Path) -> None:
    """Though the hash is the locked one."""
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as archive:
        archive.writestr(name, "")
    with pytest.raises(ValueError, match=r"evil\.py"):
        wheels.unpack(tmp_path / "a.whl", tmp_path / "packages")
    assert ["a.whl"] == [path.name for path in tmp_path.iterdir()]


def test_the_image_has_the_name_that_the_chart_uses_by_default() -> None:
    """So a cluster that has loaded the archive needs no values for it."""
    manifest = (ROOT / "deploy" / "keyferry.yaml").read_text()
    assert f"image: {default_name()}\n" in manifest
