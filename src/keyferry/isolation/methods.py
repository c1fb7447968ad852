"""The methods that the driver and the provider worker call in each other. [pure]"""

from __future__ import annotations

from dataclasses import dataclass, field

from msgspec import Struct

from keyferry.content import NamedFile
from keyferry.formats.unknown_fields import UnknownField
from keyferry.isolation.messages import Method
from keyferry.providers.api import (
    FieldCheck,
    MountCall,
    MountResult,
    PodTokenRequest,
    ProviderVersion,
)
from keyferry.providers.expiry import ExpiringLease

# --- Methods of the provider worker ---------------------------------------------------------------


class ProviderMount(Struct, frozen=True):
    """The argument of `MOUNT`: the name of a provider, and the call."""

    provider: str
    call: MountCall


class NamedFilesCall(Struct, frozen=True):
    """The argument of `NAMED_FILES`: the name of a provider, and `spec.parameters`."""

    provider: str
    parameters: dict[str, str]


class UnknownFieldsCall(Struct, frozen=True):
    """The argument of `UNKNOWN_FIELDS`: the name of a provider, and the mappings."""

    provider: str
    check: FieldCheck


class VolumeRemoval(Struct, frozen=True):
    """The argument of `VOLUME_REMOVED`; see `BuiltInProviders.volume_removed`."""

    target_path: str
    unpublished: bool


MOUNT: Method[ProviderMount, MountResult] = Method("mount", ProviderMount, MountResult)
VERSION: Method[str, ProviderVersion] = Method("version", str, ProviderVersion)
NAMED_FILES: Method[NamedFilesCall, tuple[NamedFile, ...]] = Method(
    "named_files", NamedFilesCall, tuple[NamedFile, ...]
)
UNKNOWN_FIELDS: Method[UnknownFieldsCall, tuple[UnknownField, ...]] = Method(
    "unknown_fields", UnknownFieldsCall, tuple[UnknownField, ...]
)
RESTORE: Method[None, frozenset[str]] = Method("restore", None, frozenset[str])
VOLUME_REMOVED: Method[VolumeRemoval, None] = Method("volume_removed", VolumeRemoval, None)
EXPIRING_LEASES: Method[None, tuple[tuple[str, ExpiringLease], ...]] = Method(
    "expiring_leases", None, tuple[tuple[str, ExpiringLease], ...]
)
METRICS: Method[None, bytes] = Method("metrics", None, bytes)
PING: Method[None, None] = Method("ping", None, None)

# --- Methods of the driver ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class JobCall:
    """The argument of `RUN_JOB`: the name of a parse job, its encoded argument, and the tenant."""

    name: str
    body: bytes = field(repr=False)
    tenant: str


class PodTokenCall(Struct, frozen=True):
    """The argument of `REQUEST_TOKEN`: the name of a provider, and the request."""

    provider: str
    request: PodTokenRequest


class ChallengeKeyCall(Struct, frozen=True):
    """The argument of `READ_CHALLENGE_KEY`: the name of a provider, and the path of the file."""

    provider: str
    path: str


CLUSTER_CA: Method[str, bytes] = Method("cluster_ca", str, bytes)
RUN_JOB: Method[JobCall, bytes] = Method("run_job", JobCall, bytes)
REQUEST_TOKEN: Method[PodTokenCall, str] = Method("request_token", PodTokenCall, str)
SHARED_KEY: Method[str, bytes] = Method("shared_key", str, bytes)
NODE_KEY: Method[str, bytes] = Method("node_key", str, bytes)
READ_CHALLENGE_KEY: Method[ChallengeKeyCall, str] = Method(
    "read_challenge_key", ChallengeKeyCall, str
)
