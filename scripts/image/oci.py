"""OCI images: layers, the image layout, and its archive. Same input, same bytes."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

_INDEX = "application/vnd.oci.image.index.v1+json"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


@dataclass(frozen=True)
class Layer:
    """A layer of an image.

    Attributes:
        content: the compressed tar archive.
        comment: how it came about.
    """

    content: bytes
    comment: str = ""

    @property
    def diff_id(self) -> str:
        """The digest of the tar archive itself."""
        return digest_of(gzip.decompress(self.content))


@dataclass(frozen=True)
class Image:
    """An image for one platform.

    Attributes:
        architecture: such as `amd64`.
        layers: from the bottom to the top.
        settings: entry point, user and environment, as in the image configuration.
        epoch: creation time in seconds.
    """

    architecture: str
    layers: Sequence[Layer]
    settings: Mapping[str, object]
    epoch: int = 0

    def config(self) -> bytes:
        """Return the image configuration."""
        created = datetime.fromtimestamp(self.epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        history = [{"created": created, "created_by": each.comment} for each in self.layers]
        return encode(
            {
                "created": created,
                "architecture": self.architecture,
                "os": "linux",
                "config": dict(self.settings),
                "rootfs": {"type": "layers", "diff_ids": [each.diff_id for each in self.layers]},
                "history": history,
            }
        )


@dataclass
class Layout:
    """The blobs of an OCI image layout, by their digests."""

    blobs: dict[str, bytes] = field(default_factory=dict)

    def add(self, media_type: str, content: bytes) -> dict[str, object]:
        """Add a blob; return its descriptor."""
        digest = digest_of(content)
        self.blobs[digest] = content
        return {"mediaType": media_type, "digest": digest, "size": len(content)}

    def add_image(self, image: Image) -> dict[str, object]:
        """Add an image; return the descriptor of its manifest."""
        manifest = {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": self.add(_CONFIG, image.config()),
            "layers": [self.add(_LAYER, layer.content) for layer in image.layers],
        }
        platform = {"architecture": image.architecture, "os": "linux"}
        return self.add(_MANIFEST, encode(manifest)) | {"platform": platform}


def write_archive(path: Path, name: str, images: Sequence[Image]) -> str:
    """Write images as an archive of an OCI image layout; return the digest.

    The archive of an image for one platform can be read by `docker load`, too.

    Args:
        path: of the archive.
        name: the image name with its tag.
        images: one for each platform.
    """
    layout = Layout()
    top, *others = [layout.add_image(image) for image in images]
    files: dict[str, bytes] = {}
    if others:
        index = {"schemaVersion": 2, "mediaType": _INDEX, "manifests": [top, *others]}
        top = layout.add(_INDEX, encode(index))
    else:
        files["manifest.json"] = _manifest_of_docker(images[0], name)
    annotations = {
        "io.containerd.image.name": name,
        "org.opencontainers.image.ref.name": name.rpartition(":")[2],
    }
    manifests = [top | {"annotations": annotations}]
    files["index.json"] = encode({"schemaVersion": 2, "mediaType": _INDEX, "manifests": manifests})
    files["oci-layout"] = encode({"imageLayoutVersion": "1.0.0"})
    files |= {_place_of(digest): content for digest, content in layout.blobs.items()}
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
        for folder in ("blobs", "blobs/sha256"):
            _add(archive, folder, tarfile.DIRTYPE)
        for place, content in sorted(files.items()):
            _add_file(archive, place, content)
    return str(top["digest"])


def _manifest_of_docker(image: Image, name: str) -> bytes:
    manifest = {
        "Config": _place_of(digest_of(image.config())),
        "RepoTags": [name],
        "Layers": [_place_of(digest_of(layer.content)) for layer in image.layers],
    }
    return encode([manifest])


def pack_folder(root: Path) -> bytes:
    """Return the tar archive of a folder: sorted, owned by root, without times."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for path in sorted(root.rglob("*"), key=os.fspath):
            entry = archive.gettarinfo(path, arcname=path.relative_to(root).as_posix())
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = ""
            entry.mtime = 0
            if entry.islnk():  # in the folder, not in the image
                entry.type, entry.size, entry.linkname = tarfile.REGTYPE, path.stat().st_size, ""
            content = path.read_bytes() if entry.isreg() else b""
            archive.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


def digest_of(content: bytes) -> str:
    """Return the digest of a blob."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def encode(document: object) -> bytes:
    """Encode as JSON, always in the same order."""
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def _place_of(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _add(archive: tarfile.TarFile, name: str, kind: bytes, *, mode: int = 0o755) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = kind, mode
    archive.addfile(entry)


def _add_file(archive: tarfile.TarFile, name: str, content: bytes, *, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    archive.addfile(entry, io.BytesIO(content))
