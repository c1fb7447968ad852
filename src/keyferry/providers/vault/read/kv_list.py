"""Compares cached KV version 2 secrets with a list of their folder. [pure]

OpenBao lists a folder with the metadata of each secret, without values. A version is immutable, so
a cached secret is unchanged if its version is current and was created at the same nanosecond.
HashiCorp Vault lists only names, and metadata of one secret costs one request, like the secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from msgspec import Struct

from keyferry.formats.go_json import JsonNumber
from keyferry.providers.vault.api_path import ApiPath

if TYPE_CHECKING:
    from keyferry.formats.go_json import Json
    from keyferry.providers.vault.http.response import VaultResponse

_ENTRIES_PER_CALL = 10
"""Largest list that replaces one request. OpenBao takes as long for a read as for 18 entries."""
_MAX_ENTRIES = 400
"""Largest list. An entry has up to ten versions (1.4 kB), and the size of a response is limited."""
_METADATA_KEYS = {"created_time", "deletion_time", "destroyed", "version"}
"""The metadata of a version, in every release of Vault and OpenBao."""


class KvSecret(Struct, frozen=True):
    """The path of a secret in an engine that may be KV version 2.

    Attributes:
        mount: path of the engine, which may include a namespace.
        folder: path of the folder in the engine, with a trailing slash; "" for the top level.
        name: name of the secret in the folder.
    """

    mount: str
    folder: str
    name: str

    @property
    def data_prefix(self) -> str:
        """The prefix of the API paths of all secrets in the folder."""
        return f"{self.mount}/data/{self.folder}"

    def list_path(self, limit: int) -> ApiPath:
        """Return the API path that lists the folder, with at most `limit` + 1 entries."""
        path = f"{self.mount}/detailed-metadata/{self.folder}".rstrip("/")
        return ApiPath(path, f"limit={limit + 1}&list=true")


def parse_kv_path(path: ApiPath) -> KvSecret | None:
    """Return the secret whose current version `path` reads; None for other paths."""
    mount, data, rest = path.path.partition("/data/")
    if path.query or not data or not rest:
        return None
    folder, slash, name = rest.rpartition("/")
    return KvSecret(mount, folder + slash, name)


def kv_version(response: VaultResponse) -> str:
    """Return the version of a secret of KV version 2; "" for other responses."""
    if response.data is None or response.data.keys() != {"data", "metadata"}:
        return ""
    metadata = response.data["metadata"]
    if not isinstance(metadata, Mapping) or not metadata.keys() >= _METADATA_KEYS:
        return ""
    version = metadata["version"]
    return str(version) if isinstance(version, JsonNumber) else ""


def is_revalidatable(response: VaultResponse) -> bool:
    """Return whether a list can show that a response is unchanged.

    It cannot for a version with a deletion time, which looks the same before and after its
    deletion. It cannot for HashiCorp Vault, which sends `mount_type`; OpenBao does not.
    """
    if (
        response.lease_id
        or response.auth
        or response.wrap_info
        or response.warnings
        or response.mount_type
    ):
        return False
    metadata = _version_metadata(response)
    if metadata is None:
        return False
    return metadata["deletion_time"] == "" and metadata["destroyed"] is False


def is_unchanged(response: VaultResponse, entry: Json) -> bool:
    """Return whether a revalidatable response equals the current version in the vault.

    Args:
        response: cached response.
        entry: the secret's entry in the list; None if it is not listed.
    """
    if not isinstance(entry, Mapping):
        return False
    number, versions = entry.get("current_version"), entry.get("versions")
    if not isinstance(number, str) or not isinstance(versions, Mapping):
        return False
    version = versions.get(str(number))
    if not isinstance(version, Mapping):
        return False
    current = {"version": number, "custom_metadata": entry.get("custom_metadata"), **version}
    return _version_metadata(response) == current


def max_list_entries(cached: int) -> int:
    """Return the largest list, in entries, that is cheaper than `cached` reads; 0 if none is."""
    return min(max(cached - 1, 0) * _ENTRIES_PER_CALL, _MAX_ENTRIES)


def listed_entries(response: VaultResponse) -> Mapping[str, Json] | None:
    """Return the entries of a list by name; None if the response is not a detailed list."""
    entries = response.data.get("key_info") if response.data else None
    return entries if isinstance(entries, Mapping) else None


def _version_metadata(response: VaultResponse) -> Mapping[str, Json] | None:
    """Return the version's metadata in a KV version 2 response; None for other responses."""
    if response.data is None or response.data.keys() != {"data", "metadata"}:
        return None
    metadata = response.data["metadata"]
    keys = {"created_time", "custom_metadata", "deletion_time", "destroyed", "version"}
    return metadata if isinstance(metadata, Mapping) and metadata.keys() == keys else None
