"""What a list of KV version 2 proves of the secrets in a folder, and when it pays. [pure]

OpenBao lists a folder with the metadata of each secret in it, without a value. A version never
changes: who holds the one that is current, made at the same nanosecond, holds what is there.
HashiCorp's Vault lists names alone; metadata of one secret cost a call like the secret itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keyferry.providers.vault.api_path import ApiPath

if TYPE_CHECKING:
    from keyferry.formats.go_json import Json
    from keyferry.providers.vault.http.response import VaultResponse

_ENTRIES_PER_CALL = 10
"""A call takes OpenBao as long as 18 entries of a list; half of that is to be a gain."""
_MAX_ENTRIES = 400
"""Each has up to ten versions, 1.4 kB; more could be longer than an answer may be."""


@dataclass(frozen=True, slots=True)
class KvSecret:
    """One secret of an engine that may be KV version 2.

    Attributes:
        mount: of the engine, which may lie in a namespace.
        folder: in it, "" or with a slash at its end.
        name: in the folder.
    """

    mount: str
    folder: str
    name: str

    @property
    def data_prefix(self) -> str:
        """What the paths of all secrets of the folder begin with."""
        return f"{self.mount}/data/{self.folder}"

    def list_path(self, limit: int) -> ApiPath:
        """Of its folder's list, which ends with one entry more than `limit`."""
        path = f"{self.mount}/detailed-metadata/{self.folder}".rstrip("/")
        return ApiPath(path, f"limit={limit + 1}&list=true")


def parse_kv_path(path: ApiPath) -> KvSecret | None:
    """The secret whose current version `path` reads; None where it reads something else."""
    mount, data, rest = path.path.partition("/data/")
    if path.query or not data or not rest:
        return None
    folder, slash, name = rest.rpartition("/")
    return KvSecret(mount, folder + slash, name)


def is_revalidatable(response: VaultResponse) -> bool:
    """Whether a list can prove that an answer still holds.

    A version that will delete itself looks the same when it has done so. `mount_type` is what
    HashiCorp's Vault tells and OpenBao does not.
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
    stays = metadata["deletion_time"] == ""
    return stays and metadata["destroyed"] is False


def is_unchanged(response: VaultResponse, entry: Json) -> bool:
    """Whether a provable answer is what the vault would give now.

    Args:
        response: what is held.
        entry: what the list tells of the secret; None for nothing.
    """
    if not isinstance(entry, Mapping):
        return False
    number, versions = entry.get("current_version"), entry.get("versions")
    if not isinstance(number, str) or not isinstance(versions, Mapping):
        return False
    version = versions.get(str(number))
    if not isinstance(version, Mapping):
        return False
    now = {"version": number, "custom_metadata": entry.get("custom_metadata"), **version}
    return _version_metadata(response) == now


def max_list_entries(cached: int) -> int:
    """How many entries a list may have that spares the calls for so many secrets; 0: none."""
    return min(max(cached - 1, 0) * _ENTRIES_PER_CALL, _MAX_ENTRIES)


def listed_entries(response: VaultResponse) -> Mapping[str, Json] | None:
    """Name -> entry of a list; None where it is none."""
    found = response.data.get("key_info") if response.data else None
    return found if isinstance(found, Mapping) else None


def _version_metadata(response: VaultResponse) -> Mapping[str, Json] | None:
    """What an answer of KV version 2 tells of its version; None where it is something else."""
    if response.data is None or response.data.keys() != {"data", "metadata"}:
        return None
    found = response.data["metadata"]
    wanted = {"created_time", "custom_metadata", "deletion_time", "destroyed", "version"}
    return found if isinstance(found, Mapping) and found.keys() == wanted else None
