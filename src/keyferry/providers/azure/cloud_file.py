"""Reads the environment file that describes AzureStackCloud."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.errors import ClassInvalidError, excerpt
from keyferry.formats.unknown_fields import describe_unknown_fields
from keyferry.providers.azure.clouds import (
    AZURE_STACK_CLOUD,
    UnreadableEnvironmentError,
    misspelled_environment_keys,
    parse_environment,
)
from keyferry.telemetry.logs import get_logger

if TYPE_CHECKING:
    from keyferry.providers.azure.clouds import AzureCloud, EnvironmentFile
    from keyferry.providers.class_files import ClassFiles

_log = get_logger("azure")
_MAX_ENVIRONMENT_FILE_BYTES = 1 << 16


async def read_environment_file(file: EnvironmentFile, class_files: ClassFiles) -> AzureCloud:
    """Read the cloud in `file`. There is no cache, so the next mount uses a changed file.

    Raises:
        ClassInvalidError: the file is not permitted, cannot be read, or does not describe a cloud.
            The message is the same for all of these reasons: it would show the author of
            a SecretProviderClass which files exist on the node.
    """
    try:
        content = await class_files.read(file.path, max_bytes=_MAX_ENVIRONMENT_FILE_BYTES)
        cloud = parse_environment(content, path=file.path)
        if misspelled := misspelled_environment_keys(content):
            _log.warning_once(
                "the file of cloudEnvFileName has fields without effect",
                path=excerpt(file.path),
                fields=describe_unknown_fields(misspelled),
            )
        return cloud
    except OSError as error:
        reason = error.strerror
    except UnreadableEnvironmentError as error:
        reason = str(error)
    _log.debug("cloudEnvFileName cannot be used", path=excerpt(file.path), reason=reason)
    raise ClassInvalidError(
        f"cloudName {AZURE_STACK_CLOUD} is not valid, error: cloudEnvFileName "
        f"{excerpt(file.path)} cannot be used",
        "Name a JSON file that describes this cloud, below a folder that --class-files-dirs "
        "permits. Keyferry logs the reason at verbosity 2.",
    )
