"""Finds the provider that a SecretProviderClass names: built in, or external behind a socket.

Source: docs/reference/upstream-provider-protocol.md#provider-lookup
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keyferry.driver.external_provider import CONNECT_SECONDS, ExternalProvider
from keyferry.driver.volumes.volume_events import VolumeRemoved
from keyferry.errors import (
    AuthorError,
    ProviderNotFoundError,
    ProviderReportedError,
    ProviderUnreachableError,
)
from keyferry.telemetry.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from keyferry.driver.volumes.volume_events import VolumeEvent
    from keyferry.providers.api import NamedFile, Provider
    from keyferry.providers.expiry import ExpiringLease
    from keyferry.providers.registry import ProviderRow
    from keyferry.resilience.fetcher import Fetcher

_log = get_logger("plugins")


@dataclass(frozen=True, slots=True)
class ResolvedProvider:
    """A provider that is ready to be called.

    Attributes:
        provider: the provider.
        writes_files_itself: whether it may write into the volume instead of returning files. If so,
            the volume must be mounted before the provider is called.
        row: its entry in the registry of built-in providers; None for an unknown provider.
    """

    provider: Provider
    writes_files_itself: bool
    row: ProviderRow | None

    def named_files(self, parameters: Mapping[str, str]) -> tuple[NamedFile, ...]:
        """Return the files of a SecretProviderClass with their other names.

        Nothing for an unknown provider, whose files are known only by their paths. The same holds
        for parameters that only an external provider with the name of a built-in one understands.

        Args:
            parameters: `spec.parameters`.

        Raises:
            AuthorError: the provider is built in, and the parameters are invalid.
        """
        return _named_files(self.row, parameters, built_in=not self.writes_files_itself)


class Providers:
    """All providers of this process.

    Args:
        built_in: the providers that run in this process, by name.
        rows: the registry; an external provider with the name of a row reads the same parameters.
        socket_folders: the folders with sockets of external providers, in order.
        max_receive_bytes: the maximum size of a reply of an external provider.
        connect_seconds: how long to wait for an external provider that does not respond.
        fetcher: the cache and rate limits that the built-in providers share.
    """

    def __init__(
        self,
        *,
        built_in: Mapping[str, Provider],
        rows: Sequence[ProviderRow],
        socket_folders: Sequence[Path],
        max_receive_bytes: int,
        connect_seconds: float = CONNECT_SECONDS,
        fetcher: Fetcher | None = None,
    ) -> None:
        self._built_in = built_in
        self._fetcher = fetcher
        self._rows = {row.name: row for row in rows}
        self._socket_folders = socket_folders
        self._max_receive_bytes = max_receive_bytes
        self._connect_seconds = connect_seconds
        self._external: dict[str, ExternalProvider] = {}

    def resolve(self, name: str) -> ResolvedProvider:
        """Return the provider `name`, a valid name.

        Raises:
            ProviderNotFoundError: there is no such provider. This is not cached, so a socket is
                found as soon as it exists.
        """
        row = self._rows.get(name)
        if built_in := self._built_in.get(name):
            return ResolvedProvider(built_in, writes_files_itself=False, row=row)
        if external := self._external.get(name):
            return ResolvedProvider(external, writes_files_itself=True, row=row)
        for folder in self._socket_folders:
            socket = folder / f"{name}.sock"
            if socket.exists():
                external = ExternalProvider(
                    name,
                    socket,
                    max_receive_bytes=self._max_receive_bytes,
                    connect_seconds=self._connect_seconds,
                )
                self._external[name] = external
                return ResolvedProvider(external, writes_files_itself=True, row=row)
        raise self._not_found(name)

    def named_files(self, name: str, parameters: Mapping[str, str]) -> tuple[NamedFile, ...]:
        """Return what `ResolvedProvider.named_files` does, without the provider being available."""
        return _named_files(self._rows.get(name), parameters, built_in=name in self._built_in)

    async def check_health(self) -> None:
        """Call Version of every external provider that was used, and log the results."""
        await asyncio.gather(
            *(self._check_provider(name, provider) for name, provider in self._external.items())
        )

    def restore(self) -> frozenset[str]:
        """Restore the leases of an earlier process; return the target paths that they belong to."""
        return frozenset().union(*(provider.restore() for provider in self._built_in.values()))

    def expiring_leases(self) -> list[tuple[str, ExpiringLease]]:
        """Return leases that can no longer be renewed, as (provider name, lease)."""
        return [
            (name, lease)
            for name, provider in self._built_in.items()
            for lease in provider.expiring_leases()
        ]

    async def on_volume_event(self, event: VolumeEvent) -> None:
        """Release what the providers hold for a removed volume.

        Leases outlive a failed first mount: kubelet retries it, and the retry uses them.
        """
        if isinstance(event, VolumeRemoved):
            if self._fetcher is not None:
                self._fetcher.release(event.target_path)
            if event.unpublished:
                self.volume_removed(event.target_path)

    def volume_removed(self, target_path: str) -> None:
        """Notify every provider that a volume is removed; which one filled it is not known."""
        for provider in (*self._built_in.values(), *self._external.values()):
            provider.volume_removed(target_path)

    def is_due(self, target_path: str, *, last_attempt: float) -> bool | None:
        """Return whether a refresh of a volume would send a request to a vault now.

        None when this is unknown: the provider is external, or has cached nothing for the volume.

        Args:
            target_path: the mount point of the volume.
            last_attempt: monotonic seconds of the last refresh attempt; 0 for none.
        """
        return (
            None
            if self._fetcher is None
            else self._fetcher.is_due(target_path, last_attempt=last_attempt)
        )

    async def close(self) -> None:
        """Close all providers."""
        for provider in (*self._built_in.values(), *self._external.values()):
            await provider.close()

    async def _check_provider(self, name: str, provider: ExternalProvider) -> None:
        try:
            version = await provider.version()
        except (ProviderUnreachableError, ProviderReportedError) as error:
            _log.warning("provider health check failed", provider=name, error=str(error))
        else:
            _log.debug("provider is healthy", provider=name, version=version.runtime_version)

    def _not_found(self, name: str) -> ProviderNotFoundError:
        known = sorted(
            {*self._built_in, *(s.stem for f in self._socket_folders for s in _sockets(f))}
        )
        folders = ", ".join(str(folder) for folder in self._socket_folders)
        external = f", and no {name}.sock is in {folders}" if folders else ""
        return ProviderNotFoundError(
            f"provider not found: provider {name!r} is not built in{external}",
            f"Available providers: {', '.join(known) or 'none'}."
            " Correct spec.provider, or install that provider.",
        )


def _sockets(folder: Path) -> list[Path]:
    try:
        return sorted(folder.glob("*.sock"))
    except OSError:
        return []


def _named_files(
    row: ProviderRow | None, parameters: Mapping[str, str], *, built_in: bool
) -> tuple[NamedFile, ...]:
    if row is None:
        return ()
    try:
        return row.named_files(parameters)
    except AuthorError:
        if built_in:
            raise
        return ()
