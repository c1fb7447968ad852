"""The flags of the audit log."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from keyferry.cli.flags.go_flags import FlagKind, GoFlag
from keyferry.errors import SettingInvalidError
from keyferry.telemetry.audit_settings import DEFAULT_MAX_BYTES, AuditDestination, AuditSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keyferry.cli.flags.go_flags import FlagValue

AUDIT_FLAGS = (
    GoFlag(
        "audit-log",
        FlagKind.STRING,
        "log",
        "destination of the audit log: log (the log of this process), none, or the path of a file",
    ),
    GoFlag(
        "audit-log-max-bytes",
        FlagKind.INT,
        str(DEFAULT_MAX_BYTES),
        "size in bytes at which the file of --audit-log is renamed to PATH.1; 0 disables this",
    ),
)


def audit_settings(values: Mapping[str, FlagValue]) -> AuditSettings:
    """Return the settings of the audit log.

    Raises:
        SettingInvalidError: a value is invalid.
    """
    text, max_bytes = str(values["audit-log"]), int(values["audit-log-max-bytes"])
    if max_bytes < 0:
        raise SettingInvalidError(
            f"--audit-log-max-bytes is {max_bytes}",
            "Set it to a number of bytes, or to 0 for no maximum.",
        )
    if text.startswith("/"):
        return AuditSettings(Path(text), max_bytes)
    try:
        return AuditSettings(AuditDestination(text), max_bytes)
    except ValueError:
        raise SettingInvalidError(
            f"--audit-log is {text!r}",
            "Set it to log, none, or the absolute path of a file.",
        ) from None
