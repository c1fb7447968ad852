"""The messages between the driver and its child processes. [pure]

A frame is a length of four bytes and a MessagePack body. The driver decodes what an unprivileged
process sends, so every body is decoded by its type, and a frame has a maximum size.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from typing import Any, Generic, TypeVar

import msgspec

from keyferry.accesses import AccessOutcome, VaultAccess
from keyferry.errors import InternalError, KeyferryError, Stage, descriptor_error

A = TypeVar("A")
R = TypeVar("R")

LENGTH_BYTES = 4
MAX_FRAME_BYTES = 64 * 1024 * 1024
"""Far above the content of a volume, which --max-call-recv-msg-size limits."""


class Kind(IntEnum):
    """What a message is."""

    CALL = 0
    """A call that expects a result."""
    NOTICE = 1
    """A call without a result."""
    CANCEL = 2
    """The caller of an earlier call no longer waits."""
    RESULT = 3
    """The result of a call."""
    FAILURE = 4
    """The error of a call."""


class Message(msgspec.Struct, array_like=True, frozen=True):
    """One message.

    Attributes:
        kind: what it is.
        id: the number of the call, unique for its sender.
        method: the name of the method of a call.
        body: the encoded argument, result or `WireError`.
        context: the log context of a call.
    """

    kind: Kind
    id: int
    method: str = ""
    body: bytes = b""
    context: dict[str, str | tuple[str, str]] = {}


class Method(Generic[A, R]):
    """A method that one process calls in another one.

    Args:
        name: identifies the method.
        argument_type: the type of its argument, for msgspec.
        result_type: the type of its result, for msgspec.
    """

    def __init__(self, name: str, argument_type: Any, result_type: Any) -> None:
        self.name = name
        self._argument = msgspec.msgpack.Decoder(argument_type)
        self._result = msgspec.msgpack.Decoder(result_type)

    def decode_argument(self, body: bytes) -> A:
        """Decode an argument.

        Raises:
            msgspec.DecodeError: it does not have the type.
        """
        argument: A = self._argument.decode(body)
        return argument

    def decode_result(self, body: bytes) -> R:
        """Decode a result.

        Raises:
            msgspec.DecodeError: it does not have the type.
        """
        result: R = self._result.decode(body)
        return result


_encoder = msgspec.msgpack.Encoder()
_message_decoder = msgspec.msgpack.Decoder(Message)


def encode_body(value: object) -> bytes:
    """Encode an argument or a result."""
    return _encoder.encode(value)


def encode_frame(message: Message) -> bytes:
    """Return `message` as it is sent."""
    body = _encoder.encode(message)
    return len(body).to_bytes(LENGTH_BYTES) + body


def frame_length(header: bytes) -> int:
    """Return the length of the body that follows.

    Raises:
        ValueError: it is larger than any message.
    """
    length = int.from_bytes(header)
    if length > MAX_FRAME_BYTES:
        raise ValueError(f"a message of {length} bytes")
    return length


def decode_message(body: bytes) -> Message:
    """Decode the body of a frame.

    Raises:
        msgspec.DecodeError: it is not a message.
    """
    return _message_decoder.decode(body)


# --- errors ---------------------------------------------------------------------------------------


class WireError(msgspec.Struct, frozen=True):
    """A `KeyferryError` as it is sent: its type by name, and its attributes."""

    type: str
    problem: str
    remedy: str
    stage: str
    code: int
    reason: str
    object_name: str
    outcome: AccessOutcome
    accesses: tuple[VaultAccess, ...]
    is_cached: bool
    retry_after: float | None = None
    owner_class: str = ""
    detail: str = ""
    upstream_prefix: str = ""


def _with_subclasses(kind: type[KeyferryError]) -> Iterator[type[KeyferryError]]:
    yield kind
    for subclass in kind.__subclasses__():
        yield from _with_subclasses(subclass)


_ERROR_TYPES = {
    kind.__name__: kind
    for kind in _with_subclasses(KeyferryError)
    if kind.__module__ == KeyferryError.__module__
}
_error_decoder = msgspec.msgpack.Decoder(WireError)


def encode_error(error: BaseException) -> bytes:
    """Return an error as it is sent. Of an unexpected exception only the type is sent."""
    error = descriptor_error(error) or error
    if not isinstance(error, KeyferryError):
        error = InternalError(f"internal error ({type(error).__name__}) in a child process")
    named = next(base for base in type(error).__mro__ if base.__name__ in _ERROR_TYPES)
    return _encoder.encode(
        WireError(
            named.__name__,
            error.problem,
            error.remedy,
            error.stage.value,
            int(error.code),
            error.reason,
            error.object_name,
            error.outcome,
            error.accesses,
            error.is_cached,
            getattr(error, "retry_after", None),
            getattr(error, "owner_class", ""),
            error.detail,
            error.upstream_prefix,
        )
    )


def decode_error(body: bytes) -> KeyferryError:
    """Return the error that a process sent.

    Raises:
        msgspec.DecodeError: it is not an error.
    """
    sent = _error_decoder.decode(body)
    kind = _ERROR_TYPES.get(sent.type, InternalError)
    error = kind.__new__(kind, sent.problem, sent.remedy)
    error.problem, error.remedy = sent.problem, sent.remedy
    error.stage, error.code, error.reason = Stage(sent.stage), sent.code, sent.reason
    error.object_name, error.outcome = sent.object_name, sent.outcome
    error.accesses, error.is_cached = sent.accesses, sent.is_cached
    error.detail = sent.detail
    error.upstream_prefix = sent.upstream_prefix
    vars(error).update(retry_after=sent.retry_after, owner_class=sent.owner_class)
    return error
