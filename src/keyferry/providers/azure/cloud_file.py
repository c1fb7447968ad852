"""Reads the file that describes AzureStackCloud."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.errors import ClassInvalidError, excerpt
from keyferry.formats.private_files import read_regular_file
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
        content = read_regular_file(
            file.path, max_bytes=_MAX_ENVIRONMENT_FILE_BYTES, follow_links=True
        )
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a path"
        raise ClassInvalidError(
            f"cloudName {AZURE_STACK_CLOUD} is not valid, error: open "
            f"{excerpt(file.path)}: {reason}",
            "cloudEnvFileName must be a file that the driver can read on every node.",
        ) from error
    return parse_environment(content, path=file.path)
