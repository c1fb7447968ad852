"""Collects what one mount reads, for the audit log."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from keyferry.accesses import AccessOutcome, AccessSource, ObjectAccess, VaultAccess
from keyferry.errors import KeyferryError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from keyferry.resilience.metrics import CacheResult

_SOURCES: Mapping[CacheResult, AccessSource] = {
    "miss": AccessSource.VAULT,
    "coalesced": AccessSource.VAULT,
    "hit": AccessSource.CACHE,
    "negative_hit": AccessSource.CACHE,
    "revalidated": AccessSource.REVALIDATED,
    "stale": AccessSource.STALE,
}


class VaultAccessRecorder:
    """Collects what one mount reads from one vault.

    Args:
        vault: the host of the vault.
        identity: the names of the identity, as (field, value), beginning with its mode. Fields
            without a value are left out.
    """

    def __init__(self, vault: str, identity: tuple[tuple[str, str], ...]) -> None:
        self._vault = vault
        self._identity = identity
        self._objects: list[ObjectAccess] = []
        self._status_versions: Mapping[str, tuple[tuple[str, str], ...]] = {}

    def read(
        self,
        name: str,
        result: CacheResult,
        *,
        version: str = "",
        seconds: float,
    ) -> None:
        """Record that an object was read.

        Args:
            name: the object as the vault knows it.
            result: how it was obtained.
            version: the version that was read; "" if unknown.
            seconds: how long that took.
        """
        source = _SOURCES[result]
        self._objects.append(
            ObjectAccess(
                name,
                AccessOutcome.DELIVERED,
                source,
                version,
                None if source is AccessSource.CACHE else seconds,
            )
        )

    def failed(self, name: str, error: KeyferryError, *, seconds: float) -> None:
        """Record that an object could not be read.

        Args:
            name: the object as the vault knows it.
            error: why.
            seconds: how long that took.
        """
        source = AccessSource.CACHE if error.is_cached else AccessSource.VAULT
        self._objects.append(
            ObjectAccess(
                name,
                error.outcome,
                source,
                seconds=None if error.is_cached else seconds,
                reason=error.reason,
                stage=error.stage.value,
            )
        )

    @contextmanager
    def opening(self, names: Iterable[str], now: Callable[[], float]) -> Iterator[None]:
        """Record that objects could not be read if the block, which logs in, raises.

        Args:
            names: the objects as the vault knows them.
            now: returns the seconds of a monotonic clock.
        """
        started = now()
        try:
            yield
        except KeyferryError as error:
            for name in dict.fromkeys(names):
                self.failed(name, error, seconds=now() - started)
            raise

    def delivered(self, status_versions: Mapping[str, tuple[tuple[str, str], ...]]) -> None:
        """Record which entries of the pod status depend on each object.

        Args:
            status_versions: (ID, version) of the entries, by the name of the object.
        """
        self._status_versions = status_versions

    def access(self) -> VaultAccess:
        """Return what was recorded so far."""
        identity = tuple((field, value) for field, value in self._identity if value)
        objects, versions = self._objects, self._status_versions
        if versions:
            objects = [
                each._replace(status_versions=versions.get(each.name, ())) for each in objects
            ]
        return VaultAccess(self._vault, identity, tuple(objects))


class AccessRecorder:
    """Collects what one mount reads from all its vaults."""

    def __init__(self) -> None:
        self._vaults: list[VaultAccessRecorder] = []

    def at(self, vault: str, identity: tuple[tuple[str, str], ...]) -> VaultAccessRecorder:
        """Return the recorder for one vault and identity; see `VaultAccessRecorder`."""
        recorder = VaultAccessRecorder(vault, identity)
        self._vaults.append(recorder)
        return recorder

    def accesses(self) -> tuple[VaultAccess, ...]:
        """Return what was recorded so far."""
        return tuple(recorder.access() for recorder in self._vaults)
