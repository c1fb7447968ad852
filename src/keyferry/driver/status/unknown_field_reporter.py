"""Reports fields of SecretProviderClasses and volumes that have no effect, in the log and events.

A misspelled field is no error, as in upstream. Without a report it would vanish in silence.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from keyferry.driver.request import volume_fields
from keyferry.driver.status.events import unknown_class_fields, unknown_volume_fields
from keyferry.errors import KeyferryError
from keyferry.formats.bounded_dict import BoundedDict
from keyferry.formats.unknown_fields import describe_unknown_fields
from keyferry.providers.api import FieldCheck
from keyferry.telemetry.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

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
        class_key, class_content = (spc.namespace, spc.name), hash(content)
        if not self._is_reported(class_key, class_content):
            with self._reporting(class_key, class_content):
                await self._report_class(spc)
        attributes, misspelled = volume_fields(request)
        if attributes or misspelled:
            key = request.pod, spc.name, "attributes"
            of_volume = hash((frozenset(attributes.items()), misspelled))
            if not self._is_reported(key, of_volume):
                with self._reporting(key, of_volume):
                    check = FieldCheck(attributes, "volumeAttributes")
                    await self._report_volume(request, spc, check, misspelled)
        if request.secrets:
            keys = tuple(sorted(request.secrets))
            key = request.pod, spc.name, "secret"
            if not self._is_reported(key, hash(keys)):
                with self._reporting(key, hash(keys)):
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

    def _is_reported(self, key: Hashable, content: int) -> bool:
        return self._reported.touch(key) == content

    @contextmanager
    def _reporting(self, key: Hashable, content: int) -> Iterator[None]:
        """Remember that `key` is reported with this content while the block does that.

        It is remembered at once, so that other pods do not repeat the check, and forgotten when the
        block fails or is cancelled.
        """
        self._reported[key] = content
        try:
            yield
        except KeyferryError as error:
            self._reported.pop(key, None)
            _log.debug("fields were not checked", **error.log_pairs())
        except BaseException:
            self._reported.pop(key, None)
            raise
