"""Destinations of the audit log; `audit_records` builds its records."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from keyferry.errors import PlatformError, Stage
from keyferry.telemetry.audit_file import AuditFile, FileAuditLog
from keyferry.telemetry.audit_records import record_groups
from keyferry.telemetry.audit_settings import AuditDestination
from keyferry.telemetry.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from keyferry.telemetry.audit_records import AuditedMount
    from keyferry.telemetry.audit_settings import AuditSettings
    from keyferry.telemetry.metrics import Metrics

_log = get_logger("audit")


class AuditLog(Protocol):
    """Writes the accesses of mounts. Neither blocks nor raises."""

    def write(self, mount: AuditedMount) -> None:
        """Write one record for each access of `mount`."""


class NullAuditLog:
    """Discards the records."""

    def write(self, mount: AuditedMount) -> None:
        """Discard the records of `mount`."""


class ProcessAuditLog:
    """Writes the records to the log of the process, one line each.

    The lines of a refresh that finds the same version need `-v=2`: nothing periodic is logged at
    `-v=0`.
    """

    def write(self, mount: AuditedMount) -> None:
        """Write one line for each access of `mount`."""
        for group in record_groups(mount):
            if group.records:
                _log.info_records("secret access", group.common, group.records)
            if group.unchanged:
                _log.debug_records("secret access", group.common, group.unchanged)


@contextmanager
def open_audit_log(settings: AuditSettings, metrics: Metrics) -> Iterator[AuditLog]:
    """Open the audit log for the block.

    Args:
        settings: the destination.
        metrics: counts records that are lost.

    Raises:
        PlatformError: the file cannot be opened.
    """
    match settings.destination:
        case AuditDestination.LOG:
            yield ProcessAuditLog()
        case AuditDestination.NONE:
            yield NullAuditLog()
        case path:
            metrics.audit_records_lost(0)  # the series exists before the first loss
            file = _open_file(path, settings.max_bytes)
            file_log = FileAuditLog(file, metrics.audit_records_lost)
            try:
                yield file_log
            finally:
                file_log.close()


def _open_file(path: Path, max_bytes: int) -> AuditFile:
    try:
        return AuditFile(path, max_bytes=max_bytes)
    except OSError as error:
        raise PlatformError(
            f"--audit-log: failed to open {path}: {error.strerror or type(error).__name__}",
            "Set --audit-log to a file in an existing folder that this process may write to.",
            stage=Stage.REQUEST,
        ) from error
