"""Runs the built-in providers of one process.

The driver uses `BuiltInProviders`, whether the providers run in its own process (`ProviderHost`)
or in a provider worker (`keyferry.isolation`).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Protocol, Self

from keyferry.aio.large_inputs import LargeInputParser
from keyferry.errors import SettingInvalidError, Stage
from keyferry.providers.known_fields.attributes import POD_NAME
from keyferry.providers.mount_limits import MountLimits
from keyferry.providers.registry import PROVIDERS
from keyferry.records import replace
from keyferry.resilience.call_context import Purpose
from keyferry.resilience.waiting import SLOW_SECONDS, reporting_slow_wait
from keyferry.telemetry.logs import ObjectName, get_logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from keyferry.content import NamedFile
    from keyferry.formats.unknown_fields import UnknownField
    from keyferry.providers.api import FieldCheck, MountCall, MountResult, Provider, ProviderVersion
    from keyferry.providers.expiry import ExpiringLease
    from keyferry.providers.privileges import Privileges
    from keyferry.providers.registry import ProviderRow
    from keyferry.providers.settings import ProviderDependencies
    from keyferry.resilience.fetcher import Fetcher
    from keyferry.resilience.waiting import Wait

_log = get_logger("provider")


class BuiltInProviders(Protocol):
    """The built-in providers, wherever they run."""

    @property
    def names(self) -> frozenset[str]:
        """The names of the enabled providers."""

    async def mount(self, name: str, call: MountCall) -> MountResult:
        """Call `mount` of the provider `name`.

        Raises:
            KeyferryError: an object could not be delivered.
        """

    async def version(self, name: str) -> ProviderVersion:
        """Call `version` of the provider `name`."""

    async def named_files(self, name: str, parameters: Mapping[str, str]) -> tuple[NamedFile, ...]:
        """Return the files that a mount will produce; nothing for a name without a registry row.

        Args:
            name: a provider, which need not be enabled.
            parameters: `spec.parameters` of a SecretProviderClass.

        Raises:
            AuthorError: the parameters are invalid.
        """

    async def unknown_fields(self, name: str, check: FieldCheck) -> tuple[UnknownField, ...]:
        """Return the fields that have no effect; nothing for a name without a registry row.

        Args:
            name: a provider, which need not be enabled.
            check: the mappings.
        """

    async def restore(self) -> frozenset[str]:
        """Restore the leases of an earlier process; return the target paths of their volumes."""

    def on_restart(self, callback: Callable[[frozenset[str]], Awaitable[None]]) -> None:
        """Call `callback` with what `restore` returns, when the providers were started again."""

    def volume_removed(self, target_path: str, *, unpublished: bool) -> None:
        """Release what is cached for a volume. Never raises, and does not wait.

        Args:
            target_path: the mount path of the volume.
            unpublished: whether the leases of the volume are revoked. They outlive a failed first
                mount: kubelet retries it, and the retry uses them.
        """

    async def expiring_leases(self) -> tuple[tuple[str, ExpiringLease], ...]:
        """Return leases that can no longer be renewed, with the names of their providers."""

    async def close(self) -> None:
        """Close all providers. No method is called afterwards."""


class ProviderHost:
    """Implements `BuiltInProviders` in this process.

    Args:
        providers: the enabled providers by name.
        rows: the registry.
        fetcher: the cache and rate limits that the providers share; None without one.
    """

    def __init__(
        self,
        providers: Mapping[str, Provider],
        *,
        rows: Sequence[ProviderRow] = PROVIDERS,
        fetcher: Fetcher | None = None,
    ) -> None:
        self._providers = providers
        self._rows = {row.name: row for row in rows}
        self._fetcher = fetcher
        self._parser = LargeInputParser()

    @classmethod
    def build(
        cls,
        names: Iterable[str],
        deps: ProviderDependencies,
        *,
        privileges: Callable[[str], Privileges] | None = None,
    ) -> ProviderHost:
        """Build the providers of these names.

        Args:
            names: the providers.
            deps: what they are built from.
            privileges: returns the privileged side of a provider; None to run it in this process.

        Raises:
            SettingInvalidError: a name is unknown.
        """
        check_names(names)
        if deps.mount_limits is None:
            deps = replace(deps, mount_limits=MountLimits(deps.settings.max_mount_bytes))
        rows = {row.name: row for row in PROVIDERS}
        built = {
            name: rows[name].build(
                replace(deps, privileges=privileges(name)) if privileges else deps
            )
            for name in names
        }
        return cls(built, fetcher=deps.fetcher)

    @property
    def names(self) -> frozenset[str]:
        """The names of the enabled providers."""
        return frozenset(self._providers)

    def get(self, name: str) -> Provider:
        """Return the enabled provider `name`."""
        return self._providers[name]

    async def __aenter__(self) -> Self:
        """Return this object; the block uses the providers."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the providers."""
        await self.close()

    async def mount(self, name: str, call: MountCall) -> MountResult:
        """Call `mount` of the provider `name`; see `BuiltInProviders`."""
        with reporting_slow_wait(partial(_log_wait, name, call), SLOW_SECONDS):
            result = await self._providers[name].mount(call)
        if self._fetcher is None:
            return result
        slots = self._fetcher.refresh_slots(call.target_path)
        return replace(result, refresh_slots=slots) if slots else result

    async def version(self, name: str) -> ProviderVersion:
        """Call `version` of the provider `name`."""
        return await self._providers[name].version()

    async def named_files(self, name: str, parameters: Mapping[str, str]) -> tuple[NamedFile, ...]:
        """Return the files that a mount will produce; see `BuiltInProviders`."""
        row = self._rows.get(name)
        if row is None:
            return ()
        parse = partial(row.named_files, parameters)
        return await self._parser.run(parse, parameters, tenant=name)

    async def unknown_fields(self, name: str, check: FieldCheck) -> tuple[UnknownField, ...]:
        """Return the fields that have no effect; see `BuiltInProviders`."""
        row = self._rows.get(name)
        if row is None:
            return ()
        parse = partial(row.unknown_fields, check.parameters, check.path)
        found = await self._parser.run(parse, check.parameters, tenant=name)
        return found + row.unknown_secret_keys(check.secret_keys)

    async def restore(self) -> frozenset[str]:
        """Restore the leases of an earlier process; return the target paths of their volumes."""
        return frozenset().union(*(provider.restore() for provider in self._providers.values()))

    def on_restart(self, callback: Callable[[frozenset[str]], Awaitable[None]]) -> None:
        """Do nothing: the providers end with this process."""

    def volume_removed(self, target_path: str, *, unpublished: bool) -> None:
        """Release what is cached for a volume; see `BuiltInProviders`."""
        if self._fetcher is not None:
            self._fetcher.release(target_path)
        if unpublished:
            for provider in self._providers.values():
                provider.volume_removed(target_path)

    async def expiring_leases(self) -> tuple[tuple[str, ExpiringLease], ...]:
        """Return leases that can no longer be renewed, with the names of their providers."""
        return tuple(
            (name, lease)
            for name, provider in self._providers.items()
            for lease in provider.expiring_leases()
        )

    async def close(self) -> None:
        """Close all providers, then the cache that they share."""
        for provider in self._providers.values():
            await provider.close()
        if self._fetcher is not None:
            await self._fetcher.close()


def check_names(names: Iterable[str]) -> None:
    """Check that there is a built-in provider for each name of `--builtin-providers`.

    Raises:
        SettingInvalidError: a name is unknown.
    """
    known = [row.name for row in PROVIDERS]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise SettingInvalidError(
            f"--builtin-providers: unknown provider {unknown[0]!r}",
            f"Available: {', '.join(known)}.",
        )


def _log_wait(provider: str, call: MountCall, wait: Wait | None) -> None:
    """Log what a mount waits for; a refresh delays no pod, so it is a detail."""
    log = _log.info if call.purpose is Purpose.FIRST else _log.debug
    log(
        "a mount takes long",
        pod=ObjectName(call.tenant, call.attributes.get(POD_NAME, "")),
        provider=provider,
        seconds=SLOW_SECONDS,
        stage=(wait.stage if wait else Stage.VAULT).value,
        waitingFor=str(wait) if wait else "a request of another pod",
    )
