"""Reports fields of SecretProviderClasses and volumes that have no effect, in the log and events.

A misspelled field is no error, as in upstream. Without a report it would vanish in silence.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from keyferry.driver.request import volume_fields
from keyferry.driver.status.events import unknown_class_fields, unknown_volume_fields
from keyferry.errors import KeyferryError
from keyferry.formats.bounded_dict import BoundedDict
from keyferry.formats.unknown_fields import describe_unknown_fields
from keyferry.providers.api import FieldCheck
from keyferry.telemetry.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Hashable

    from keyferry.driver.request import PublishRequest
    from keyferry.formats.unknown_fields import UnknownField
    from keyferry.kubernetes import ObjectStore, SecretProviderClass
    from keyferry.plugins.providers import Providers

_MAX_REPORTED = 4096
"""SecretProviderClasses and volumes that are remembered."""

_log = get_logger("fields")


class UnknownFieldReporter:
    """Reports each SecretProviderClass once for each of its contents, and each volume once.

    Args:
        store: where Kubernetes events are recorded.
        providers: know their parameters.
    """

    def __init__(self, store: ObjectStore, providers: Providers) -> None:
        self._store = store
        self._providers = providers
        self._reported: BoundedDict[Hashable, int] = BoundedDict(_MAX_REPORTED)
        """The hash of each SecretProviderClass and volume; the contents could be large."""

    async def report(self, request: PublishRequest, spc: SecretProviderClass) -> None:
        """Report the unknown fields of a volume before it is published.

        It never fails: the mount reports a provider that is unavailable.

        Args:
            request: `volumeAttributes` and the keys of the Secret are checked.
            spc: its SecretProviderClass.
        """
        content = spc.version, spc.provider, frozenset(spc.parameters.items()), spc.unknown_fields
        async with self._once((spc.namespace, spc.name), hash(content)) as is_due:
            if is_due:
                await self._report_class(spc)
        attributes, misspelled = volume_fields(request)
        if attributes or misspelled:
            key = request.pod, spc.name, "attributes"
            async with self._once(key, hash((frozenset(attributes.items()), misspelled))) as is_due:
                if is_due:
                    check = FieldCheck(attributes, "volumeAttributes")
                    await self._report_volume(request, spc, check, misspelled)
        if request.secrets:
            keys = tuple(sorted(request.secrets))
            async with self._once((request.pod, spc.name, "secret"), hash(keys)) as is_due:
                if is_due:
                    await self._report_volume(request, spc, FieldCheck({}, secret_keys=keys))

    async def _report_class(self, spc: SecretProviderClass) -> None:
        found = await self._providers.unknown_fields(spc.provider, FieldCheck(spc.parameters))
        if fields := spc.unknown_fields + found:
            _log.warning(
                "the SecretProviderClass has fields without effect",
                fields=describe_unknown_fields(fields),
            )
            await self._store.record_event(unknown_class_fields(spc, fields))

    async def _report_volume(
        self,
        request: PublishRequest,
        spc: SecretProviderClass,
        check: FieldCheck,
        misspelled: tuple[UnknownField, ...] = (),
    ) -> None:
        found = await self._providers.unknown_fields(spc.provider, check)
        if fields := misspelled + found:
            _log.warning(
                "the volume has fields without effect", fields=describe_unknown_fields(fields)
            )
            await self._store.record_event(unknown_volume_fields(request.pod, fields))

    @asynccontextmanager
    async def _once(self, key: Hashable, content: int) -> AsyncIterator[bool]:
        """Yield whether `key` was not yet reported with this content.

        It is remembered at once, so that other pods do not repeat the check, and forgotten when the
        block fails or is cancelled.
        """
        if self._reported.touch(key) == content:
            yield False
            return
        self._reported[key] = content
        try:
            yield True
        except KeyferryError as error:
            self._reported.pop(key, None)
            _log.debug("fields were not checked", **error.log_pairs())
        except BaseException:
            self._reported.pop(key, None)
            raise
