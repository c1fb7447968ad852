"""Exit codes of all commands, derived from the error tree. [pure]

docs/reference/cli.md documents them.
"""

from __future__ import annotations

from enum import IntEnum

from keyferry.errors import (
    AuthorError,
    ConnectionFailedError,
    KeyferryError,
    ProviderError,
    ProviderNotFoundError,
    RequestInvalidError,
    SettingInvalidError,
    VaultError,
    VaultThrottledError,
    VaultUnavailableError,
)


class ExitCode(IntEnum):
    """Exit codes of commands."""

    DONE = 0
    FAILED = 1
    """A failure on this machine, or an unexpected error."""
    INVALID = 2
    """The command line, an input file or the SecretProviderClass is invalid."""
    REFUSED = 3
    """A vault or identity provider refused the request, or has no such object."""
    UNAVAILABLE = 4
    """A vault or identity provider is unreachable or too slow; a retry may succeed."""

    # `keyferry run`, as `env` and `docker run` do
    RUN_FAILED = 125
    NOT_EXECUTABLE = 126
    COMMAND_NOT_FOUND = 127

    SIGNAL = 128
    """Plus the number of the signal."""


def exit_code(error: KeyferryError) -> ExitCode:
    """Return the exit code of a command that fails with `error`."""
    match error:
        case AuthorError() | RequestInvalidError() | SettingInvalidError():
            return ExitCode.INVALID
        case ProviderNotFoundError():
            return ExitCode.INVALID
        case ConnectionFailedError() | VaultThrottledError() | VaultUnavailableError():
            return ExitCode.UNAVAILABLE
        case VaultError(is_outage=True):
            return ExitCode.UNAVAILABLE
        case ProviderError():
            return ExitCode.REFUSED
        case _:
            return ExitCode.FAILED
