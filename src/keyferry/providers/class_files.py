"""Reads the files that SecretProviderClasses name, on threads of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from keyferry.aio.tenant import current_tenant
from keyferry.aio.tenant_threads import TenantThreads
from keyferry.formats.confined_files import ConfinedFiles
from keyferry.providers.restrictions import KUBELET_FOLDER, kubelet_folder

if TYPE_CHECKING:
    from collections.abc import Callable

    from keyferry.providers.restrictions import ClassRestrictions

T = TypeVar("T")

_MAX_THREADS = 4
_MAX_THREADS_PER_TENANT = 2
_MAX_KUBELET_FOLDERS = 16


class ClassFiles:
    """The files below the permitted folders, except those of kubelet.

    Args:
        restrictions: names the permitted folders.

    Attributes:
        files: the files that SecretProviderClasses may name.
    """

    def __init__(self, restrictions: ClassRestrictions) -> None:
        self._folders = restrictions.file_folders
        self._kubelet_folders = list(dict.fromkeys((KUBELET_FOLDER, restrictions.kubelet_folder)))
        self._threads = TenantThreads(
            "class-files", max_threads=_MAX_THREADS, max_per_tenant=_MAX_THREADS_PER_TENANT
        )
        self.files = ConfinedFiles(self._folders, tuple(self._kubelet_folders))

    def protect_volumes_beside(self, target_path: str) -> None:
        """Refuse the files of all volumes of the kubelet that has this one.

        Args:
            target_path: mount path of a volume.
        """
        folder = kubelet_folder(target_path)
        known = self._kubelet_folders
        if folder and folder not in known and len(known) < _MAX_KUBELET_FOLDERS:
            known.append(folder)
            self.files = ConfinedFiles(self._folders, tuple(known))

    async def run(self, read: Callable[[], T]) -> T:
        """Call `read`, which reads files, on a thread for the tenant of the current task."""
        return await self._threads.run(current_tenant(), read)

    async def read(self, path: str, *, max_bytes: int) -> bytes:
        """Return the content of the file `path`.

        Raises:
            OSError: it is not permitted, cannot be read, is not a regular file, or is larger than
                `max_bytes`. No message for a tenant may show which.
        """
        return await self.run(lambda: self.files.read(path, max_bytes=max_bytes))
