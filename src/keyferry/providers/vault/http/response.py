"""What a vault answers, read once. [pure]

Numbers stay as they are written. An answer without anything in it is an error here, where
upstream's process dies of it.

Source: docs/reference/upstream-vault-provider.md#responses
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from keyferry.formats.go_json import JsonNumber, NotJsonError, read_json

if TYPE_CHECKING:
    from keyferry.formats.go_json import Json

_ENVELOPE_FIELDS = (
    "request_id", "lease_id", "lease_duration", "renewable", "data", "warnings", "auth",
    "wrap_info", "mount_type",
)  # fmt: skip
_ZERO = JsonNumber("0")
_RESPONSE_OVERHEAD_BYTES = 1024
"""What Python takes for an answer beside its data, roughly."""
_OBJECT_OVERHEAD_BYTES = 16
"""And beside what each object in it tells of itself."""
MAX_TTL_SECONDS = 10 * 365 * 86400.0
"""A lease or a token that lasts longer is taken to last so long."""


class MalformedResponseError(ValueError):
    """It is not an answer of a vault; the text says what is wrong and quotes nothing of it."""


@dataclass(frozen=True, slots=True)
class VaultResponse:
    """One answer.

    Attributes:
        lease_id: "" where there is no lease.
        lease_duration: seconds, as it is written.
        renewable: whether the lease can be renewed.
        data: what was asked for.
        warnings: what the vault has to say about it, None for nothing.
        auth: a token that came with it, None for none.
        wrap_info: where the answer is wrapped, None if it is not.
        mount_type: the kind of the engine, "" where it is not told.
    """

    lease_id: str = ""
    lease_duration: JsonNumber = _ZERO
    renewable: bool = False
    data: Mapping[str, Json] | None = field(default=None, repr=False)
    warnings: tuple[str, ...] | None = field(default=None, repr=False)
    auth: Mapping[str, Json] | None = field(default=None, repr=False)
    wrap_info: Mapping[str, Json] | None = field(default=None, repr=False)
    mount_type: str = ""

    @property
    def lease_seconds(self) -> float:
        """How long its lease lasts."""
        return ttl_or_zero(self.lease_duration)


def parse_response(body: bytes) -> VaultResponse:
    """The answer in the body of a success.

    Raises:
        BadAnswerError: it is not one.
    """
    if not body.strip():
        return VaultResponse()
    try:
        document = read_json(body)
    except NotJsonError:
        raise MalformedResponseError("it is not JSON") from None
    if not isinstance(document, Mapping):
        raise MalformedResponseError("it is not a JSON object")
    if not any(document.get(key) for key in _ENVELOPE_FIELDS):
        return _without_envelope(document)
    return VaultResponse(
        lease_id=_text(document, "lease_id"),
        lease_duration=_number(document, "lease_duration"),
        renewable=document.get("renewable") is True,
        data=_mapping(document, "data"),
        warnings=_warnings(document),
        auth=_mapping(document, "auth"),
        wrap_info=_mapping(document, "wrap_info"),
        mount_type=_text(document, "mount_type"),
    )


def memory_size(response: VaultResponse) -> int:
    """About how many bytes an answer takes in memory: up to twenty times those of its JSON."""
    total = _RESPONSE_OVERHEAD_BYTES
    left: list[Json] = [response.data]
    while left:
        value = left.pop()
        total += _OBJECT_OVERHEAD_BYTES + value.__sizeof__()
        if isinstance(value, Mapping):
            total += sum(_OBJECT_OVERHEAD_BYTES + key.__sizeof__() for key in value)
            left.extend(value.values())
        elif isinstance(value, Sequence) and not isinstance(value, str):
            left.extend(value)
    return total


def ttl_or_zero(value: Json) -> float:
    """How long something lasts: a number of seconds from 0 on; 0 for anything else."""
    return min(max(number_or_zero(value), 0.0), MAX_TTL_SECONDS)


def number_or_zero(value: Json) -> float:
    """A number; 0 for anything else."""
    try:
        return float(value) if isinstance(value, JsonNumber) else 0.0
    except ValueError:
        return 0.0


def parse_errors(body: bytes) -> tuple[str, ...]:
    """The texts in `errors` of a refusal, or of a health page what it says of itself."""
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
    """An answer without envelope: all of it is data."""
    if not document or set(document) <= {"errors", *_ENVELOPE_FIELDS}:
        return VaultResponse()
    if document.get("errors"):
        raise MalformedResponseError("it is a success that tells errors")
    return VaultResponse(data=document)


def _text(document: Mapping[str, Json], key: str) -> str:
    value = document.get(key)
    if value is None:
        return ""
    if type(value) is not str:
        raise MalformedResponseError(f"its {key} is not a text")
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
