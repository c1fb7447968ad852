"""Reads the environment file that describes AzureStackCloud.

Source: docs/reference/upstream-azure-provider.md#clouds
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec

from keyferry.errors import ClassInvalidError, descriptor_error, excerpt
from keyferry.formats.unknown_fields import correct_missing, describe_unknown_fields, limited
from keyferry.providers.azure.clouds import AZURE_STACK_CLOUD, AzureCloud, is_in_domain
from keyferry.providers.known_fields.azure import CLOUD_FILE
from keyferry.telemetry.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keyferry.formats.unknown_fields import UnknownField
    from keyferry.providers.azure.clouds import EnvironmentFile
    from keyferry.providers.class_files import ClassFiles

_log = get_logger("azure")
_MAX_ENVIRONMENT_FILE_BYTES = 1 << 16


async def read_environment_file(file: EnvironmentFile, class_files: ClassFiles) -> AzureCloud:
    """Read the cloud in `file`. There is no cache, so the next mount uses a changed file.

    Raises:
        ClassInvalidError: the file is not permitted, cannot be read, or does not describe a cloud.
            The message is the same for all of these reasons: it would show the author of
            a SecretProviderClass which files exist on the node.
        OSError: this process can open no further file.
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
        if descriptor_error(error) is not None:  # nothing is wrong with the file
            raise
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


class _EnvironmentDocument(msgspec.Struct, rename="camel"):
    active_directory_endpoint: str
    key_vault_endpoint: str
    key_vault_dns_suffix: str = msgspec.field(name="keyVaultDNSSuffix")
    name: str = AZURE_STACK_CLOUD


class UnreadableEnvironmentError(ValueError):
    """The content of an environment file is not JSON of that shape."""


def parse_environment(content: bytes, *, path: str) -> AzureCloud:
    """Parse the content of the environment file `path`. The case of keys does not matter, as in Go.

    Raises:
        UnreadableEnvironmentError: it is not JSON of that shape.
        ClassInvalidError: its values contradict each other. The message quotes nothing of it.
    """
    fields = _environment_fields(content)
    try:
        document = msgspec.json.decode(msgspec.json.encode(fields), type=_EnvironmentDocument)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise UnreadableEnvironmentError(
            f"it is not a JSON object with the keys of a cloud{_misspelled_key(fields)}"
        ) from None
    cloud = AzureCloud(
        document.name,
        document.key_vault_dns_suffix.strip(". "),
        document.key_vault_endpoint.strip().rstrip("/"),
        document.active_directory_endpoint.strip().rstrip("/"),
        from_class=True,
    )
    if not _is_https(cloud.authority):
        raise _environment_error(path, "activeDirectoryEndpoint is not an https URL")
    if not _is_https(cloud.vault_resource):
        raise _environment_error(path, "keyVaultEndpoint is not an https URL")
    # Send a token only to hosts of the resource that it is for.
    resource = urlsplit(cloud.vault_resource).hostname or ""
    if not re.fullmatch(r"[A-Za-z0-9.-]+", cloud.vault_suffix) or not is_in_domain(
        cloud.vault_suffix.casefold(), resource
    ):
        raise _environment_error(
            path, "keyVaultDNSSuffix is not the host of keyVaultEndpoint or a subdomain of it"
        )
    return cloud


def misspelled_environment_keys(content: bytes) -> tuple[UnknownField, ...]:
    """Return the keys of an environment file that resemble those of a cloud.

    Raises:
        UnreadableEnvironmentError: it is not a JSON object.
    """
    return limited(CLOUD_FILE.find_misspelled("", _environment_fields(content)))


def _environment_fields(content: bytes) -> dict[str, msgspec.Raw]:
    try:
        document = msgspec.json.decode(content, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise UnreadableEnvironmentError("it is not a JSON object") from None
    names = {name.casefold(): name for name in CLOUD_FILE.known}
    fields = {names.get(key.casefold(), key): value for key, value in document.items()}
    return fields | {key: value for key, value in document.items() if key in CLOUD_FILE.known}


def _misspelled_key(fields: Mapping[str, object]) -> str:
    for name in ("activeDirectoryEndpoint", "keyVaultEndpoint", "keyVaultDNSSuffix"):
        if name not in fields:
            return correct_missing(CLOUD_FILE, (name,), fields, "")[0]
    return ""


def _is_https(url: str) -> bool:
    return (
        re.fullmatch(r"https://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._/-]*)?", url) is not None
    )


def _environment_error(path: str, reason: str) -> ClassInvalidError:
    return ClassInvalidError(
        f"cloudName {AZURE_STACK_CLOUD} is not valid, error: {excerpt(path)}: {reason}",
        "Set activeDirectoryEndpoint, keyVaultEndpoint and keyVaultDNSSuffix in the file.",
    )
