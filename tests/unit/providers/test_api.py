"""keyferry.providers.api: the wire format of calls and results, in both directions."""

from __future__ import annotations

import asyncio
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyferry.content import NamedFile, ObjectVersion, SecretFile
from keyferry.errors import Code, ProviderReportedError, RequestInvalidError
from keyferry.formats.volume_paths import MAX_FILES
from keyferry.proto import provider_v1alpha1_pb2 as wire
from keyferry.providers.api import (
    DEFAULT_FILE_MODE,
    MountCall,
    MountResult,
    Provider,
    ProviderVersion,
    decode_call,
    decode_result,
    encode_call,
    encode_result,
)
from keyferry.providers.expiry import ExpiringLease, Expiry, ExpiryState
from keyferry.providers.known_fields.attributes import (
    POD_NAMESPACE,
    SERVICE_ACCOUNT,
    SERVICE_ACCOUNT_TOKENS,
)
from keyferry.resilience.call_context import Caller

CANARY = "canary-s3cret"

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
maps = st.dictionaries(texts, texts, max_size=5)
versions = st.lists(st.builds(ObjectVersion, texts, texts), max_size=4).map(tuple)
calls = st.builds(
    MountCall,
    attributes=maps,
    secrets=st.none() | maps,
    target_path=texts,
    permission=st.integers(0, 0o777),
    current_versions=versions,
)
files = st.builds(SecretFile, texts, st.integers(0, 0o777), st.binary(max_size=60))
results = st.builds(
    MountResult,
    versions=versions.filter(bool),
    files=st.lists(files, max_size=4).map(tuple),
)


@given(calls)
def test_call_survives_encoding_and_decoding(call: MountCall) -> None:
    """With arbitrary characters."""
    received = wire.MountRequest.FromString(encode_call(call).SerializeToString())
    assert call == decode_call(received)


@given(results)
def test_result_survives_encoding_and_decoding(result: MountResult) -> None:
    """With arbitrary bytes."""
    received = wire.MountResponse.FromString(encode_result(result).SerializeToString())
    assert result == decode_result(received, provider="any")


def test_repr_contains_no_secret() -> None:
    """A value in a log line shows neither contents nor attributes."""
    call = MountCall({"a": CANARY}, {"b": CANARY}, "/t")
    result = MountResult((ObjectVersion("i", "v"),), (SecretFile("a", 0o644, CANARY.encode()),))
    assert CANARY not in repr(call) + repr(result)


def test_repr_of_a_file_contains_path_and_mode() -> None:
    """They are not secret and help with debugging."""
    assert "SecretFile(path='a', mode=420, owner=None)" == repr(
        SecretFile("a", 0o644, CANARY.encode())
    )


def test_encoded_call_matches_the_protocol() -> None:
    """Field numbers 1 to 5; JSON with sorted keys and no spaces; 0644 as the number 420."""
    call = MountCall(
        attributes={"b": "2", "a": "1"},
        secrets={"k": "v"},
        target_path="/t",
        permission=0o644,
        current_versions=(ObjectVersion("i", "v"),),
    )
    expected = (
        b'\x0a\x11{"a":"1","b":"2"}\x12\x09{"k":"v"}\x1a\x02/t\x22\x03420\x2a\x06\x0a\x01i\x12\x01v'
    )
    assert expected == encode_call(call).SerializeToString()


def test_encoded_result_matches_the_protocol() -> None:
    """Versions are field 1; files are field 3 with path, mode and contents."""
    result = MountResult((ObjectVersion("i", "v"),), (SecretFile("p", 0o600, b"c"),))
    expected = b"\x0a\x06\x0a\x01i\x12\x01v\x1a\x09\x0a\x01p\x10\x80\x03\x1a\x01c"
    assert expected == encode_result(result).SerializeToString()


def test_call_without_secrets_is_encoded_as_null() -> None:
    """Upstream encodes a nil map, so providers expect the text `null`, not `{}`."""
    assert "null" == encode_call(MountCall({}, None)).secrets
    assert "{}" == encode_call(MountCall({}, {})).secrets
    assert decode_call(encode_call(MountCall({}, None))).secrets is None


def test_default_file_mode_is_that_of_upstream() -> None:
    """The provider reads `420`, not an octal text."""
    assert "420" == encode_call(MountCall({})).permission
    assert 0o644 == DEFAULT_FILE_MODE


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '"x"', '{"a": 1}', '{"a": null}', f'{{"{CANARY}": [1]}}', "\x00"],
)
def test_attributes_must_be_a_json_object_of_strings(text: str) -> None:
    """The error is upstream's. It does not quote the text, which may contain tokens."""
    with pytest.raises(RequestInvalidError) as caught:
        decode_call(wire.MountRequest(attributes=text, secrets="null", permission="420"))
    assert "failed to unmarshal attributes" in str(caught.value)
    assert CANARY not in str(caught.value)
    assert (None, True) == (caught.value.__cause__, caught.value.__suppress_context__)


@pytest.mark.parametrize("text", ["", "{", "[]", f'"{CANARY}"', f'{{"a": ["{CANARY}"]}}'])
def test_secrets_must_be_null_or_a_json_object_of_strings(text: str) -> None:
    """The error does not quote the text, which contains credentials."""
    with pytest.raises(RequestInvalidError) as caught:
        decode_call(wire.MountRequest(attributes="{}", secrets=text, permission="420"))
    assert "failed to unmarshal secrets" in str(caught.value)
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "0644", "-1", "512", "420.5", '"420"', "true", "1e99", "x" * 99]
)
def test_permission_must_be_a_mode(text: str) -> None:
    """The message shows the beginning of the text, and how to write a mode."""
    with pytest.raises(RequestInvalidError) as caught:
        decode_call(wire.MountRequest(attributes="{}", secrets="null", permission=text))
    assert "failed to unmarshal file permission" in str(caught.value)
    assert "decimal JSON number from 0 to 511" in str(caught.value)
    assert "x" * 21 not in str(caught.value)


def test_call_is_decoded_in_the_order_of_upstream() -> None:
    """Attributes, secrets, permission: the first error is raised."""
    with pytest.raises(RequestInvalidError, match="attributes"):
        decode_call(wire.MountRequest(attributes="x", secrets="x", permission="x"))
    with pytest.raises(RequestInvalidError, match="secrets"):
        decode_call(wire.MountRequest(attributes="{}", secrets="x", permission="x"))


def test_error_code_in_the_response_fails_the_mount() -> None:
    """The code is the reason in the metric. Files and versions of the response are ignored."""
    message = wire.MountResponse(
        error=wire.Error(code="Quota"), object_version=[wire.ObjectVersion(id="i", version="v")]
    )
    with pytest.raises(ProviderReportedError, match="'gcp' reported error code 'Quota'") as caught:
        decode_result(message, provider="gcp")
    assert ("Quota", Code.UNKNOWN) == (caught.value.reason, caught.value.code)


def test_error_without_a_code_is_a_success() -> None:
    """Some providers always send the message, even if empty."""
    message = wire.MountResponse(
        error=wire.Error(), object_version=[wire.ObjectVersion(id="i", version="v")]
    )
    assert MountResult((ObjectVersion("i", "v"),)) == decode_result(message, provider="gcp")


def test_response_without_versions_fails_the_mount() -> None:
    """Rotation compares versions."""
    message = wire.MountResponse(files=[wire.File(path="a", mode=1, contents=b"c")])
    with pytest.raises(ProviderReportedError, match="missing object versions") as caught:
        decode_result(message, provider="gcp")
    assert "GRPCProviderError" == caught.value.reason


def test_provider_needs_no_base_class() -> None:
    """A provider needs no base class."""

    class Echo:
        async def mount(self, call: MountCall) -> MountResult:
            return MountResult((ObjectVersion("i", call.target_path),))

        async def version(self) -> ProviderVersion:
            return ProviderVersion("v1alpha1", "echo", "1")

        def restore(self) -> frozenset[str]:
            return frozenset()

        def expiring_leases(self) -> tuple[ExpiringLease, ...]:
            return ()

        def volume_removed(self, target_path: str) -> None:
            pass

        async def close(self) -> None:
            pass

    provider: Provider = Echo()
    assert "/t" == asyncio.run(provider.mount(MountCall({}, target_path="/t"))).versions[0].version


@pytest.mark.parametrize(
    ("now", "state", "sentence"),
    [
        (9_899.9, ExpiryState.FAR, "secret db expires on 1970-01-01 02:46 UTC"),
        (9_900.0, ExpiryState.SOON, "secret db expires on 1970-01-01 02:46 UTC"),
        (9_999.9, ExpiryState.SOON, "secret db expires on 1970-01-01 02:46 UTC"),
        (10_000.0, ExpiryState.EXPIRED, "secret db expired on 1970-01-01 02:46 UTC"),
    ],
)
def test_expiry_state_and_warning_depend_on_the_time(
    now: float, state: ExpiryState, sentence: str
) -> None:
    """The warning does not contain the remaining time, so that events are counted."""
    expiry = Expiry("secret db", 10_000, 100.0)
    assert (state, sentence) == (expiry.state(now), expiry.warning(now))


def test_named_file_has_path_aliases_and_object_name() -> None:
    """The path, the names beside it, and what a person calls the object."""
    named = NamedFile("alias", frozenset({"db"}), "secret db")
    assert re.fullmatch(r"NamedFile\(path='alias', .*object_name='secret db', .*\)", repr(named))


def test_tenant_is_the_namespace_of_the_pod() -> None:
    attributes = {POD_NAMESPACE: "shop", SERVICE_ACCOUNT: "web"}
    assert "shop" == MountCall(attributes).tenant
    assert Caller("shop", "web") == MountCall(attributes).caller
    assert "" == MountCall({}).tenant


@pytest.mark.parametrize(
    ("secrets", "credentials"),
    [
        (None, None),
        ({}, {}),
        ({SERVICE_ACCOUNT_TOKENS: "{}"}, None),
        ({SERVICE_ACCOUNT_TOKENS: "{}", "clientid": "x"}, {"clientid": "x"}),
    ],
)
def test_tokens_of_kubelet_are_no_credentials(
    secrets: dict[str, str] | None, credentials: dict[str, str] | None
) -> None:
    """From Kubernetes 1.35 on, kubelet sends both in one mapping."""
    assert credentials == MountCall({}, secrets).credentials


def test_result_with_too_many_files_is_rejected_before_it_is_decoded() -> None:
    """A response of 4 MiB may have half a million."""
    message = wire.MountResponse(
        object_version=[wire.ObjectVersion(id="a", version="1")],
        files=[wire.File(path="a")] * (MAX_FILES + 1),
    )
    with pytest.raises(ProviderReportedError, match="'ext' returned 4097 files"):
        decode_result(message, provider="ext")
    del message.files[0]
    assert MAX_FILES == len(decode_result(message, provider="ext").files)
