"""Finds the provider that a SecretProviderClass names: built in, or external behind a socket.

Source: docs/reference/upstream-provider-protocol.md#provider-lookup
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Self

from msgspec import Struct

from keyferry.errors import (
    AuthorError,
    ProviderNotFoundError,
    ProviderReportedError,
    ProviderUnreachableError,
)
from keyferry.formats.bounded_dict import BoundedDict
from keyferry.plugins.derivation import derived_names
from keyferry.plugins.external_provider import CONNECT_SECONDS, ExternalProvider
from keyferry.providers.mount_limits import MountLimits
from keyferry.providers.registry import has_leases, suggest_provider
from keyferry.telemetry.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from keyferry.content import NamedFile
    from keyferry.formats.unknown_fields import UnknownField
    from keyferry.providers.api import FieldCheck, MountCall, MountResult
    from keyferry.providers.expiry import ExpiringLease
    from keyferry.providers.host import BuiltInProviders

_MAX_NAMED_FILES = 256
"""SecretProviderClasses whose file names are remembered."""
_MAX_REMEMBERED_LENGTH = 16_384
"""Characters of the parameters of such a SecretProviderClass, so that memory is bounded."""
NamedFilesKey = tuple[str, tuple[tuple[str, str], ...]]

_log = get_logger("plugins")


class ResolvedProvider(Struct, frozen=True):
    """A provider that is ready to be called.

    Attributes:
        name: its name.
        mount: fetches the content of a volume.
        writes_files_itself: whether it may write into the volume instead of returning files. If so,
            the volume must be mounted before the provider is called.
        named_files: returns the files of a SecretProviderClass with their other names, from
            `spec.parameters`; see `Providers.named_files`.
    """

    name: str
    mount: Callable[[MountCall], Awaitable[MountResult]]
    writes_files_itself: bool
    named_files: Callable[[Mapping[str, str]], Awaitable[tuple[NamedFile, ...]]]


class Providers:
    """All providers of this node.

    Args:
        built_in: the built-in providers.
        socket_folders: the folders with sockets of external providers, in order.
        max_receive_bytes: the maximum size of a reply of an external provider.
        connect_seconds: how long to wait for an external provider that does not respond.
    """

    def __init__(
        self,
        *,
        built_in: BuiltInProviders,
        socket_folders: Sequence[Path],
        max_receive_bytes: int,
        connect_seconds: float = CONNECT_SECONDS,
    ) -> None:
        self._built_in = built_in
        self._socket_folders = socket_folders
        self._max_receive_bytes = max_receive_bytes
        self._connect_seconds = connect_seconds
        self._external: dict[str, ExternalProvider] = {}
        self._unhealthy: set[str] = set()
        self._limits = MountLimits(max_receive_bytes)
        self._named_files: BoundedDict[NamedFilesKey, tuple[NamedFile, ...]] = BoundedDict(
            _MAX_NAMED_FILES
        )
        """By provider and parameters, because only they decide; each refresh asks again."""

    def resolve(self, name: str) -> ResolvedProvider:
        """Return the provider `name`, a valid name.

        Raises:
            ProviderNotFoundError: there is no such provider. This is not cached, so a socket is
                found as soon as it exists.
        """
        named_files = partial(self.named_files, name)
        if name in self._built_in.names:
            mount = partial(self._built_in.mount, name)
            return ResolvedProvider(name, mount, False, named_files)
        if external := self._external.get(name):
            return ResolvedProvider(name, partial(self._mount, external), True, named_files)
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
                return ResolvedProvider(name, partial(self._mount, external), True, named_files)
        raise self._not_found(name)

    async def named_files(self, name: str, parameters: Mapping[str, str]) -> tuple[NamedFile, ...]:
        """Return the files of a SecretProviderClass with their other names.

        The provider need not be available. There are none for an unknown provider, whose files are
        known only by their paths. The same holds for parameters that only an external provider
        with the name of a built-in one understands.

        Args:
            name: `spec.provider`.
            parameters: `spec.parameters`.

        Raises:
            AuthorError: the provider is built in, and the parameters are invalid.
        """
        key = name, tuple(sorted(parameters.items()))
        if (known := self._named_files.touch(key)) is not None:
            return known
        try:
            found = await self._built_in.named_files(name, parameters)
        except AuthorError:
            if name in self._built_in.names:
                raise
            found = ()
        found += derived_names(found, parameters)
        if sum(map(len, parameters.values())) <= _MAX_REMEMBERED_LENGTH:
            self._named_files[key] = found
        return found

    async def unknown_fields(self, name: str, check: FieldCheck) -> tuple[UnknownField, ...]:
        """Return the fields that have no effect; none for an external provider.

        Args:
            name: `spec.provider`.
            check: the parameters, and the keys of a Secret.
        """
        if name not in self._built_in.names:
            return ()
        return await self._built_in.unknown_fields(name, check)

    async def check_health(self) -> None:
        """Call Version of every external provider that was used, and log what changed."""
        await asyncio.gather(
            *(self._check_provider(name, provider) for name, provider in self._external.items())
        )

    def on_restart(self, callback: Callable[[frozenset[str]], Awaitable[None]]) -> None:
        """Call `callback` after the built-in providers have restored their leases once more."""
        self._built_in.on_restart(callback)

    async def restore(self) -> frozenset[str]:
        """Restore the leases of an earlier process; return the target paths that they belong to."""
        return await self._built_in.restore()

    def have_leases(self, names: Iterable[str]) -> bool:
        """Return whether volumes of any of these providers may use leases."""
        return any(has_leases(name) for name in set(names))

    async def expiring_leases(self) -> tuple[tuple[str, ExpiringLease], ...]:
        """Return leases that can no longer be renewed, as (provider name, lease)."""
        return await self._built_in.expiring_leases()

    def volume_removed(self, target_path: str, *, unpublished: bool) -> None:
        """Notify the built-in providers of a removed volume; see `BuiltInProviders`."""
        self._built_in.volume_removed(target_path, unpublished=unpublished)

    async def __aenter__(self) -> Self:
        """Return this object; the block uses the providers."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close all providers."""
        await self.close()

    async def close(self) -> None:
        """Close all providers."""
        await self._built_in.close()
        for provider in self._external.values():
            await provider.close()

    async def _mount(self, external: ExternalProvider, call: MountCall) -> MountResult:
        # The built-in providers limit their mounts themselves.
        async with self._limits.mounting(call.tenant):
            return await external.mount(call)

    async def _check_provider(self, name: str, provider: ExternalProvider) -> None:
        try:
            version = await provider.version()
        except (ProviderUnreachableError, ProviderReportedError) as error:
            log = _log.debug if name in self._unhealthy else _log.warning
            log("provider health check failed", provider=name, error=str(error))
            self._unhealthy.add(name)
        else:
            log = _log.info if name in self._unhealthy else _log.debug
            log("provider is healthy", provider=name, version=version.runtime_version)
            self._unhealthy.discard(name)

    def _not_found(self, name: str) -> ProviderNotFoundError:
        known = sorted(
            {*self._built_in.names, *(s.stem for f in self._socket_folders for s in _sockets(f))}
        )
        folders = ", ".join(str(folder) for folder in self._socket_folders)
        external = f", and no {name}.sock is in {folders}" if folders else ""
        meant = suggest_provider(name, known)
        question = f"Did you mean {meant!r}? " if meant else ""
        return ProviderNotFoundError(
            f"provider not found: provider {name!r} is not built in{external}",
            f"{question}Available providers: {', '.join(known) or 'none'}."
            " Correct spec.provider, or install that provider.",
        )


def _sockets(folder: Path) -> list[Path]:
    try:
        return sorted(folder.glob("*.sock"))
    except OSError:
        return []
