"""Reads the environment file that describes AzureStackCloud."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.errors import ClassInvalidError, excerpt
from keyferry.formats.private_files import read_regular_file
from keyferry.providers.azure.clouds import AZURE_STACK_CLOUD, parse_environment

if TYPE_CHECKING:
    from keyferry.providers.azure.clouds import AzureCloud, EnvironmentFile

_MAX_ENVIRONMENT_FILE_BYTES = 1 << 16


def read_environment_file(file: EnvironmentFile) -> AzureCloud:
    """Read the cloud in `file`. There is no cache, so the next mount uses a changed file.

    Raises:
        ClassInvalidError: the file cannot be read, is not a regular file, or is malformed.
    """
    try:
        content = read_regular_file(
            file.path, max_bytes=_MAX_ENVIRONMENT_FILE_BYTES, follow_links=True
        )
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a path"
        raise ClassInvalidError(
            f"cloudName {AZURE_STACK_CLOUD} is not valid, error: open "
            f"{excerpt(file.path)}: {reason}",
            "Set cloudEnvFileName to a file that the driver can read on every node.",
        ) from error
    return parse_environment(content, path=file.path)
