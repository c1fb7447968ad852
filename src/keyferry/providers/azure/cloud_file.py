"""Reads the file that describes AzureStackCloud."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from keyferry.errors import ClassInvalidError
from keyferry.excerpt import excerpt
from keyferry.providers.azure.clouds import AZURE_STACK_CLOUD, parse_environment

if TYPE_CHECKING:
    from keyferry.providers.azure.clouds import AzureCloud, EnvironmentFile

_MAX_ENVIRONMENT_FILE_BYTES = 1 << 16


def read_environment_file(file: EnvironmentFile) -> AzureCloud:
    """The cloud in `file`, read anew each time, so that a changed file counts with the next mount.

    Raises:
        ClassInvalidError: it cannot be read, is no regular file, or is not of the right form.
    """
    try:
        content = _read_regular_file(file.path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a path"
        raise ClassInvalidError(
            f"cloudName {AZURE_STACK_CLOUD} is not valid, error: open "
            f"{excerpt(file.path)}: {reason}",
            "cloudEnvFileName must be a file that the driver can read on every node.",
        ) from error
    return parse_environment(content, path=file.path)


def _read_regular_file(path: str) -> bytes:
    """The beginning of a regular file; a pipe or device, named by a class, must not hold us up."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(0, "not a regular file")
        return file.read(_MAX_ENVIRONMENT_FILE_BYTES)
