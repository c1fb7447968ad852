"""A directory of manifests, one file per object, shared by threads and processes.

The files are `secrets/<namespace>/<name>.yaml`, `secretproviderclasspodstatuses/...` and
`events/...`. Only their owner may read them, and they are written atomically.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from enum import Enum
from typing import TYPE_CHECKING

from keyferry.errors import StoreError
from keyferry.formats.kubernetes_yaml import (
    KubernetesYamlError,
    Value,
    dump_document,
    parse_documents,
)
from keyferry.formats.private_files import (
    TEMPORARY_PREFIX,
    read_regular_file,
    write_private_file,
)
from keyferry.kubernetes.names import check_names

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

MAX_FILE_BYTES = 8 * 1024 * 1024
"""More than the largest Secret in base64."""

_SUFFIX = ".yaml"
_MAX_PLAIN_NAME = 200


class ManifestKind(Enum):
    """Kinds of manifests; the values are subdirectories, named as in the Kubernetes API."""

    SECRET = "secrets"  # noqa: S105 - a folder
    POD_STATUS = "secretproviderclasspodstatuses"
    EVENT = "events"


class ManifestDirectory:
    """Reads, writes and removes the manifests.

    Every method may raise `StoreError`. Methods that write require that the caller holds the lock.

    Args:
        root: the directory; created by the first write.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the directory against other threads and processes."""
        with _translate_os_errors("create and lock", self._root):
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            # flock belongs to the open file description, so it also excludes other threads.
            folder = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with _translate_os_errors("lock", self._root):
                fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)

    def read(self, kind: ManifestKind, namespace: str, name: str) -> Value:
        """Return the manifest, or None."""
        return _read_manifest(self._path(kind, namespace, name))

    def write(
        self, kind: ManifestKind, namespace: str, name: str, manifest: Mapping[str, object]
    ) -> None:
        """Write the file of an object."""
        self.replace_file(self._path(kind, namespace, name), manifest)

    def is_created(self) -> bool:
        """Return whether the directory exists."""
        with _translate_os_errors("read", self._root):
            return self._root.is_dir()

    def problem(self) -> str | None:
        """Return why manifests cannot be read and written now, or None."""
        try:
            kind = "a folder" if self._root.is_dir() else "not a folder"
        except OSError as error:
            return f"the manifests in {self._root} cannot be read: {error.strerror}"
        if kind == "a folder" and os.access(self._root, os.R_OK | os.W_OK | os.X_OK):
            return None
        return f"the manifests in {self._root} cannot be read and written ({kind})"

    def list_all(self, kind: ManifestKind) -> Iterator[tuple[Path, Value]]:
        """Yield the files of a kind with their manifests; None for one that cannot be read."""
        with _translate_os_errors("list", self._root):
            paths = sorted((self._root / kind.value).glob(f"[!.]*/[!.]*{_SUFFIX}"))
        for path in paths:
            try:
                manifest = _read_manifest(path)
            except StoreError:
                manifest = None
            yield path, manifest

    def replace_file(self, path: Path, manifest: Mapping[str, object]) -> None:
        """Write `manifest` to a file that `list_all` yielded, or a new one."""
        with _translate_os_errors("write", path):
            for folder in (path.parent.parent, path.parent):
                folder.mkdir(mode=0o700, exist_ok=True)
            # This process holds the lock, so these are files of a killed writer.
            for left_over in path.parent.glob(f"{TEMPORARY_PREFIX}*"):
                left_over.unlink(missing_ok=True)
            write_private_file(path, dump_document(manifest))

    def remove_temporary_files(self) -> None:
        """Remove unfinished files of killed writers; they may contain secret values."""
        with _translate_os_errors("sweep", self._root):
            for left_over in self._root.glob(f"*/*/{TEMPORARY_PREFIX}*"):
                self.remove_file(left_over)

    def delete(self, kind: ManifestKind, namespace: str, name: str) -> None:
        """Remove the file of an object, if it exists."""
        self.remove_file(self._path(kind, namespace, name))

    def remove_file(self, path: Path) -> None:
        """Remove a file that `list_all` yielded, and its folders if they are empty."""
        with _translate_os_errors("remove", path):
            path.unlink(missing_ok=True)
        for folder in (path.parent, path.parent.parent):
            try:
                folder.rmdir()
            except OSError:
                return

    def _path(self, kind: ManifestKind, namespace: str, name: str) -> Path:
        check_names(namespace, name, kind.value)
        return self._root / kind.value / namespace / _file_name(name)


def _file_name(name: str) -> str:
    if len(name) <= _MAX_PLAIN_NAME:
        return f"{name}{_SUFFIX}"
    # Names may have 253 characters and file names, with suffix, 255. No object name contains a '_'.
    digest = hashlib.sha256(name.encode()).hexdigest()[:32]
    return f"{name[:_MAX_PLAIN_NAME]}_{digest}{_SUFFIX}"


def _read_manifest(path: Path) -> Value:
    with _translate_os_errors("read", path):
        try:
            text = read_regular_file(path, max_bytes=MAX_FILE_BYTES, follow_links=True)
        except FileNotFoundError:
            return None
    try:
        documents = parse_documents(text, max_bytes=MAX_FILE_BYTES)
    except KubernetesYamlError as error:
        raise StoreError(f"{path} {error}", f"{error.remedy} Or remove the file.") from None
    return documents[0].value if documents else None


@contextlib.contextmanager
def _translate_os_errors(verb: str, path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"cannot {verb} {path}: {error.strerror}",
            "Check the directory, its owner and the free space.",
        ) from error
