"""The flags of the audit log."""

from __future__ import annotations

from pathlib import Path

import pytest

from keyferry.cli.flags.audit import AUDIT_FLAGS, audit_settings
from keyferry.cli.flags.go_flags import parse_flags
from keyferry.errors import PlatformError
from keyferry.telemetry.audit_settings import AuditDestination, AuditSettings


def settings(*flags: str) -> AuditSettings:
    """Parse flags."""
    return audit_settings(parse_flags(flags, AUDIT_FLAGS).values)


def test_audit_log_is_part_of_the_log_by_default() -> None:
    """With a limit for the file that nobody asked for yet."""
    assert settings() == AuditSettings(AuditDestination.LOG, 100 * 1024 * 1024)


def test_audit_log_can_be_disabled() -> None:
    """Nothing is recorded."""
    assert settings("--audit-log=none").destination is AuditDestination.NONE


def test_path_names_a_file() -> None:
    """A size of 0 leaves rotation to another program."""
    assert settings("--audit-log=/var/log/keyferry/audit.log", "--audit-log-max-bytes=0") == (
        AuditSettings(Path("/var/log/keyferry/audit.log"), 0)
    )


@pytest.mark.parametrize(
    "flag", ["--audit-log=", "--audit-log=audit.log", "--audit-log=LOG", "--audit-log-max-bytes=-1"]
)
def test_invalid_value_is_an_error(flag: str) -> None:
    """A relative path depends on where the process was started."""
    with pytest.raises(PlatformError):
        settings(flag)
