"""keyferry.providers.azure.content: from values to bytes."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyferry.errors import ObjectUnusableError
from keyferry.providers.azure.content import decode
from keyferry.providers.azure.objects import ObjectEncoding


@pytest.mark.parametrize(
    ("value", "encoding", "expected"),
    [
        ("test", ObjectEncoding.UTF8, b"test"),
        ("", ObjectEncoding.UTF8, b""),
        ("no newline is added", ObjectEncoding.UTF8, b"no newline is added"),
        ("none is cut off\n", ObjectEncoding.UTF8, b"none is cut off\n"),
        ("\u00e4\U0001f511", ObjectEncoding.UTF8, "\u00e4\U0001f511".encode()),
        ("QmFzZTY0RW5jb2RlZFN0cmluZw==", ObjectEncoding.BASE64, b"Base64EncodedString"),
        ("QmFzZTY0\r\nRW5jb2RlZFN0cmluZw==\n", ObjectEncoding.BASE64, b"Base64EncodedString"),
        ("", ObjectEncoding.BASE64, b""),
        ("486578456E636F646564537472696E67", ObjectEncoding.HEX, b"HexEncodedString"),
        ("486578456e636f646564537472696e67", ObjectEncoding.HEX, b"HexEncodedString"),
        ("", ObjectEncoding.HEX, b""),
    ],
)
def test_value_is_decoded(value: str, encoding: ObjectEncoding, expected: bytes) -> None:
    """Nothing else is changed."""
    assert decode(value, encoding) == expected


@pytest.mark.parametrize(
    ("value", "encoding"),
    [
        ("QmFzZTY0RW5jb2RlZFN0cmluZw", ObjectEncoding.BASE64),
        ("QmFz ZTY0", ObjectEncoding.BASE64),
        ("QmF-ZTY_", ObjectEncoding.BASE64),
        ("=QmFz", ObjectEncoding.BASE64),
        ("QQ==QQ==", ObjectEncoding.BASE64),
        ("QmF\u00e4", ObjectEncoding.BASE64),
        ("486", ObjectEncoding.HEX),
        ("0x48", ObjectEncoding.HEX),
        ("48 65", ObjectEncoding.HEX),
        ("zz", ObjectEncoding.HEX),
        ("4\u0668", ObjectEncoding.HEX),
        ("\ud800", ObjectEncoding.UTF8),
    ],
)
def test_value_of_another_encoding_is_an_error_without_the_value(
    value: str, encoding: ObjectEncoding
) -> None:
    """Not in the chain of causes either."""
    with pytest.raises(ObjectUnusableError) as caught:
        decode(value, encoding)
    assert value not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@given(st.binary())
def test_encoded_bytes_are_decoded_unchanged(content: bytes) -> None:
    """Any bytes, in base64 and hex."""
    assert decode(base64.b64encode(content).decode(), ObjectEncoding.BASE64) == content
    assert decode(content.hex(), ObjectEncoding.HEX) == content
