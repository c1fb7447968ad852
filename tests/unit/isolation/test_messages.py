"""Messages: what is sent arrives as it was, and garbage is refused."""

from __future__ import annotations

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyferry.accesses import AccessOutcome, AccessSource, ObjectAccess, VaultAccess
from keyferry.content import NamedFile, ObjectVersion, SecretFile
from keyferry.errors import (
    Code,
    KeyferryError,
    ObjectNotFoundError,
    ProviderReportedError,
    SecretConflictError,
    Stage,
    VaultThrottledError,
    VolumeUnpublishedError,
)
from keyferry.formats.unknown_fields import UnknownField
from keyferry.isolation.messages import (
    LENGTH_BYTES,
    MAX_FRAME_BYTES,
    Kind,
    Message,
    decode_error,
    decode_message,
    encode_body,
    encode_error,
    encode_frame,
    frame_length,
)
from keyferry.isolation.methods import (
    MOUNT,
    NAMED_FILES,
    UNKNOWN_FIELDS,
    ProviderMount,
    UnknownFieldsCall,
)
from keyferry.providers.api import FieldCheck, MountCall, MountResult
from keyferry.providers.expiry import Expiry
from keyferry.resilience.call_context import Purpose
from keyferry.resilience.freshness import RefreshSlot

ACCESS = VaultAccess(
    "contoso.vault.azure.net",
    (("mode", "WorkloadIdentity"),),
    (ObjectAccess("secret/db", AccessOutcome.DENIED, AccessSource.CACHE, seconds=0.5),),
)


def subclasses(kind: type[KeyferryError]) -> list[type[KeyferryError]]:
    """Return the errors of keyferry.errors; subclasses elsewhere arrive as these."""
    below = (one for sub in kind.__subclasses__() for one in subclasses(sub))
    return [each for each in (kind, *below) if each.__module__ == KeyferryError.__module__]


@pytest.mark.parametrize("kind", subclasses(KeyferryError), ids=lambda kind: kind.__name__)
def test_every_error_arrives_with_its_type_and_attributes(kind: type[KeyferryError]) -> None:
    sent = kind.__new__(kind, "it failed", "repair it")
    sent.problem, sent.remedy, sent.object_name = "it failed", "repair it", "secret db"
    sent.stage, sent.accesses = Stage.TLS, (ACCESS,)
    received = decode_error(encode_error(sent))
    assert kind is type(received)
    assert str(sent) == str(received)
    assert sent.log_pairs() == received.log_pairs()
    assert (sent.code, sent.reason, sent.outcome) == (
        received.code,
        received.reason,
        received.outcome,
    )
    assert (ACCESS,) == received.accesses


def test_attributes_of_single_types_arrive() -> None:
    throttled = decode_error(encode_error(VaultThrottledError("slow", retry_after=3.5)))
    assert isinstance(throttled, VaultThrottledError)
    assert 3.5 == throttled.retry_after
    conflict = decode_error(encode_error(SecretConflictError("a", "b", owner_class="web")))
    assert isinstance(conflict, SecretConflictError)
    assert "web" == conflict.owner_class
    reported = decode_error(encode_error(ProviderReportedError("a", code=7, reason="X")))
    assert (7, "X") == (reported.code, reported.reason)
    assert Code.ABORTED == decode_error(encode_error(VolumeUnpublishedError("/a"))).code


def test_error_of_a_class_of_its_own_arrives_as_the_next_known_class() -> None:
    class SpecialError(ObjectNotFoundError):
        pass

    assert ObjectNotFoundError is type(decode_error(encode_error(SpecialError("missing"))))


def test_text_of_an_unexpected_exception_is_not_sent() -> None:
    """It could quote a value."""
    received = decode_error(encode_error(ValueError("hunter2")))
    assert "internal error (ValueError) in a child process" == str(received)


def test_call_and_result_of_a_mount_arrive() -> None:
    call = MountCall(
        {"csi.storage.k8s.io/pod.name": "web"},
        {"clientid": "x"},
        "/mount",
        0o600,
        (ObjectVersion("secret/db", "1"),),
        Purpose.REFRESH,
    )
    assert call == MOUNT.decode_argument(encode_body(ProviderMount("azure", call))).call
    result = MountResult(
        (ObjectVersion("secret/db", "2"),),
        (SecretFile("db", 0o644, b"\x00\xff"),),
        (Expiry("secret db", 2_000_000_000, 60.0),),
        1.5,
        (RefreshSlot(0.25, 17.0),),
        (ACCESS,),
    )
    assert result == MOUNT.decode_result(encode_body(result))
    named = (NamedFile("db", frozenset({"db", "alias"}), "secret db"),)
    assert named == NAMED_FILES.decode_result(encode_body(named))


def test_fields_to_check_and_unknown_fields_arrive() -> None:
    check = FieldCheck({"vaultAdress": "x"}, "volumeAttributes", ("role_id",))
    call = UnknownFieldsCall("vault", check)
    assert call == UNKNOWN_FIELDS.decode_argument(encode_body(call))
    found = (UnknownField("spec", "a", "b", "it is old"),)
    assert found == UNKNOWN_FIELDS.decode_result(encode_body(found))


def test_frame_with_an_impossible_length_is_refused() -> None:
    frame = encode_frame(Message(Kind.CALL, 1, "mount", b"x"))
    assert len(frame) - LENGTH_BYTES == frame_length(frame[:LENGTH_BYTES])
    with pytest.raises(ValueError, match="a message of"):
        frame_length((MAX_FRAME_BYTES + 1).to_bytes(LENGTH_BYTES))


@given(st.binary(max_size=200))
def test_garbage_is_refused(garbage: bytes) -> None:
    """By a decoding error, which closes the connection."""
    for decode in (decode_message, decode_error, MOUNT.decode_result):
        with contextlib.suppress(msgspec.DecodeError, ValueError):
            decode(garbage)
