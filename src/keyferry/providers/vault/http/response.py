"""Parses the responses of a vault. [pure]

Numbers keep their spelling. An empty response is reported as an error by its user; upstream's
process crashes on it.

Source: docs/reference/upstream-vault-provider.md#responses
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from keyferry.formats.go_json import (
    MAX_VALUES,
    JsonNumber,
    NotJsonError,
    TooManyValuesError,
    read_json,
)
from keyferry.records import replace

if TYPE_CHECKING:
    from keyferry.formats.go_json import Json

_ENVELOPE_FIELDS = (
    "request_id", "lease_id", "lease_duration", "renewable", "data", "warnings", "auth",
    "wrap_info", "mount_type",
)  # fmt: skip
_ZERO = JsonNumber("0")
_RESPONSE_OVERHEAD_BYTES = 1024
"""Approximate memory of a response in addition to its data."""
_OBJECT_OVERHEAD_BYTES = 16
"""Approximate memory of each object in addition to its `__sizeof__`."""
MAX_TTL_SECONDS = 10 * 365 * 86400.0
"""Longer lifetimes of leases and tokens are reduced to this value."""


class MalformedResponseError(ValueError):
    """The body is not a response of a vault; the text says why and quotes none of it."""


@dataclass(frozen=True, slots=True)
class VaultResponse:
    """A successful response.

    Attributes:
        lease_id: ID of the lease; "" without one.
        lease_duration: lifetime of the lease in seconds, as written in the response.
        renewable: whether the lease can be renewed.
        data: the requested data; None if missing.
        warnings: warnings of the vault; None if missing.
        auth: token and its properties, in the response to a login; None if missing.
        wrap_info: wrapping token of a wrapped response; None if missing.
        mount_type: type of the secrets engine; "" if missing.
        body_bytes: size of the body that it was parsed from.
        memory_bytes: memory of the response; 0 if it was not parsed from a body.
    """

    lease_id: str = ""
    lease_duration: JsonNumber = _ZERO
    renewable: bool = False
    data: Mapping[str, Json] | None = field(default=None, repr=False)
    warnings: tuple[str, ...] | None = field(default=None, repr=False)
    auth: Mapping[str, Json] | None = field(default=None, repr=False)
    wrap_info: Mapping[str, Json] | None = field(default=None, repr=False)
    mount_type: str = ""
    body_bytes: int = field(default=0, compare=False)
    memory_bytes: int = field(default=0, compare=False)

    @property
    def lease_seconds(self) -> float:
        """The lifetime of the lease in seconds; 0 if it is missing."""
        return ttl_or_zero(self.lease_duration)


def parse_response(body: bytes, *, bare: bool = True) -> VaultResponse:
    """Parse the body of a successful response.

    Args:
        body: the body.
        bare: whether a JSON object that is not in Vault's envelope counts as data.

    Raises:
        MalformedResponseError: the body is not a response of a vault.
    """
    if not body.strip():
        return VaultResponse()
    try:
        document = read_json(body)
    except TooManyValuesError:
        problem = f"it has more than {MAX_VALUES} values"
        raise MalformedResponseError(problem) from None
    except NotJsonError:
        raise MalformedResponseError("it is not JSON") from None
    if not isinstance(document, Mapping):
        raise MalformedResponseError("it is not a JSON object")
    if not any(document.get(key) for key in _ENVELOPE_FIELDS):
        if not bare:
            raise MalformedResponseError("it is not a response of a vault")
        return _measured(_without_envelope(document), body)
    response = VaultResponse(
        lease_id=_text(document, "lease_id"),
        lease_duration=_number(document, "lease_duration"),
        renewable=document.get("renewable") is True,
        data=_mapping(document, "data"),
        warnings=_warnings(document),
        auth=_mapping(document, "auth"),
        wrap_info=_mapping(document, "wrap_info"),
        mount_type=_text(document, "mount_type"),
    )
    return _measured(response, body)


def memory_size(response: VaultResponse) -> int:
    """Return the approximate memory of a response in bytes: up to twenty times its JSON."""
    if response.memory_bytes:
        return response.memory_bytes
    total = _RESPONSE_OVERHEAD_BYTES
    pending: list[Json] = [response.data, response.auth, response.wrap_info]
    pending += response.warnings or ()
    while pending:
        value = pending.pop()
        total += _OBJECT_OVERHEAD_BYTES + value.__sizeof__()
        if isinstance(value, Mapping):
            total += sum(_OBJECT_OVERHEAD_BYTES + key.__sizeof__() for key in value)
            pending.extend(value.values())
        elif isinstance(value, Sequence) and not isinstance(value, str):
            pending.extend(value)
    return total


def _measured(response: VaultResponse, body: bytes) -> VaultResponse:
    """Return `response` with its sizes, which every mount that uses it needs."""
    return replace(response, body_bytes=len(body), memory_bytes=memory_size(response))


def ttl_or_zero(value: Json) -> float:
    """Return a lifetime in seconds, from 0 to `MAX_TTL_SECONDS`; 0 if it is not a number."""
    return min(max(number_or_zero(value), 0.0), MAX_TTL_SECONDS)


def number_or_zero(value: Json) -> float:
    """Return a number, or 0 if `value` is not a number."""
    try:
        return float(value) if isinstance(value, JsonNumber) else 0.0
    except ValueError:
        return 0.0


def parse_errors(body: bytes) -> tuple[str, ...]:
    """Return the texts in `errors` of an error response; none if the body is something else."""
    try:
        document = read_json(body)
    except NotJsonError:
        return ()
    if not isinstance(document, Mapping):
        return ()
    errors = document.get("errors")
    if isinstance(errors, str) or not isinstance(errors, Sequence):
        return ()
    return tuple(text for text in errors if type(text) is str)


def _without_envelope(document: Mapping[str, Json]) -> VaultResponse:
    """Return a response without Vault's envelope: the whole document is its data."""
    if not document or set(document) <= {"errors", *_ENVELOPE_FIELDS}:
        return VaultResponse()
    if document.get("errors"):
        raise MalformedResponseError("it is successful but contains errors")
    return VaultResponse(data=document)


def _text(document: Mapping[str, Json], key: str) -> str:
    value = document.get(key)
    if value is None:
        return ""
    if type(value) is not str:
        raise MalformedResponseError(f"its {key} is not a string")
    return value


def _number(document: Mapping[str, Json], key: str) -> JsonNumber:
    value = document.get(key)
    if value is None:
        return _ZERO
    if not isinstance(value, JsonNumber):
        raise MalformedResponseError(f"its {key} is not a number")
    return value


def _mapping(document: Mapping[str, Json], key: str) -> Mapping[str, Json] | None:
    value = document.get(key)
    if value is None or isinstance(value, Mapping):
        return value
    raise MalformedResponseError(f"its {key} is not an object")


def _warnings(document: Mapping[str, Json]) -> tuple[str, ...] | None:
    value = document.get("warnings")
    if value is None:
        return None
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise MalformedResponseError("its warnings are not a list")
    return tuple(text for text in value if isinstance(text, str))
