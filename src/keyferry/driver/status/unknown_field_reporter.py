"""Reports fields of SecretProviderClasses and volumes that have no effect, in the log and events.

A misspelled field is no error, as in upstream. Without a report it would vanish in silence.
No publish waits for a report.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING

from msgspec import Struct

from keyferry.aio.tasks import spawn
from keyferry.driver.request import volume_fields
from keyferry.driver.status.events import unknown_class_fields, unknown_volume_fields
from keyferry.errors import KeyferryError
from keyferry.formats.bounded_dict import BoundedDict
from keyferry.formats.unknown_fields import describe_unknown_fields
from keyferry.providers.api import FieldCheck
from keyferry.telemetry.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Hashable, Iterable, Iterator

    from keyferry.aio.foreground import Foreground
    from keyferry.driver.request import PublishRequest
    from keyferry.formats.unknown_fields import UnknownField
    from keyferry.kubernetes import Event, ObjectStore, SecretProviderClass
    from keyferry.plugins.providers import Providers

_MAX_REPORTED = 4096
"""SecretProviderClasses and volumes that are remembered."""
_DRAIN_SECONDS = 2.0
"""How long a shutdown waits for pending reports."""

_OF_VOLUME = "the volume has fields without effect"
_log = get_logger("fields")


class UnknownFieldReporter:
    """Reports each SecretProviderClass once for each of its contents, and each volume once.

    Args:
        store: where Kubernetes events are recorded.
        providers: know their parameters.
        foreground: the publishes in flight.
    """

    def __init__(self, store: ObjectStore, providers: Providers, foreground: Foreground) -> None:
        self._store = store
        self._providers = providers
        self._foreground = foreground
        self._reports: set[asyncio.Task[None]] = set()
        self._reported: BoundedDict[Hashable, int] = BoundedDict(_MAX_REPORTED)
        """The hash of each SecretProviderClass and volume."""

    def __len__(self) -> int:
        """The number of pending reports."""
        return len(self._reports)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Wait for pending reports, for a limited time, when the block ends."""
        try:
            yield
        finally:
            if self._reports:
                _, pending = await asyncio.wait(self._reports, timeout=_DRAIN_SECONDS)
                for report in pending:
                    report.cancel()

    def report_later(self, request: PublishRequest, spc: SecretProviderClass) -> None:
        """Report the unknown fields of a volume at the next pause of publishes.

        Args:
            request: `volumeAttributes` and the keys of the Secret are checked.
            spc: its SecretProviderClass.
        """
        checks = [
            check
            for check in _checks(request, spc)
            if self._reported.touch(check.key) != check.content
        ]
        if not checks:
            return
        for check in checks:
            # At once, so that other pods do not repeat the check.
            self._reported[check.key] = check.content
        report = spawn(
            self._report(spc.provider, checks), name="unknown fields", context=copy_context()
        )
        self._reports.add(report)
        report.add_done_callback(self._reports.discard)

    async def _report(self, provider: str, checks: Iterable[_Check]) -> None:
        await self._foreground.wait_for_pause()
        for check in checks:
            try:
                found = await self._providers.unknown_fields(provider, check.fields)
                if unknown := check.known_unknown + found:
                    _log.warning(check.message, fields=describe_unknown_fields(unknown))
                    await self._store.record_event(check.new_event(unknown))
            except KeyferryError as error:
                # Checked again with the next publish. The mount reports an unavailable provider.
                self._reported.pop(check.key, None)
                _log.debug("fields were not checked", **error.log_pairs())
            except BaseException:
                self._reported.pop(check.key, None)
                raise


class _Check(Struct, frozen=True):
    """A check of fields that is not repeated while they stay the same.

    Attributes:
        key: what has the fields.
        content: a hash of them; they could be large.
        message: what is logged with the fields that have no effect.
        fields: what the provider checks.
        known_unknown: the fields that are known to be unknown.
        new_event: returns the event.
    """

    key: Hashable
    content: int
    message: str
    fields: FieldCheck
    new_event: Callable[[tuple[UnknownField, ...]], Event]
    known_unknown: tuple[UnknownField, ...] = ()


def _checks(request: PublishRequest, spc: SecretProviderClass) -> Iterator[_Check]:
    """Yield what is to be checked for a volume."""
    content = spc.version, spc.provider, frozenset(spc.parameters.items()), spc.unknown_fields
    yield _Check(
        (spc.namespace, spc.name),
        hash(content),
        "the SecretProviderClass has fields without effect",
        FieldCheck(spc.parameters),
        partial(unknown_class_fields, spc),
        spc.unknown_fields,
    )
    of_volume = partial(unknown_volume_fields, request.pod)
    attributes, misspelled = volume_fields(request)
    if attributes or misspelled:
        yield _Check(
            (request.pod, spc.name, "attributes"),
            hash((frozenset(attributes.items()), misspelled)),
            _OF_VOLUME,
            FieldCheck(attributes, "volumeAttributes"),
            of_volume,
            misspelled,
        )
    if request.secrets:
        keys = tuple(sorted(request.secrets))
        yield _Check(
            (request.pod, spc.name, "secret"),
            hash(keys),
            _OF_VOLUME,
            FieldCheck({}, secret_keys=keys),
            of_volume,
        )
