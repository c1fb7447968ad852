"""keyferry.azure.encodings: from values to bytes."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyferry.azure.encodings import decode
from keyferry.azure.objects import Encoding
from keyferry.errors import ObjectUnusableError


@pytest.mark.parametrize(
    ("value", "encoding", "expected"),
    [
        ("test", Encoding.UTF8, b"test"),
        ("", Encoding.UTF8, b""),
        ("no newline is added", Encoding.UTF8, b"no newline is added"),
        ("none is cut off\n", Encoding.UTF8, b"none is cut off\n"),
        ("\u00e4\U0001f511", Encoding.UTF8, "\u00e4\U0001f511".encode()),
        ("QmFzZTY0RW5jb2RlZFN0cmluZw==", Encoding.BASE64, b"Base64EncodedString"),
        ("QmFzZTY0\r\nRW5jb2RlZFN0cmluZw==\n", Encoding.BASE64, b"Base64EncodedString"),
        ("", Encoding.BASE64, b""),
        ("486578456E636F646564537472696E67", Encoding.HEX, b"HexEncodedString"),
        ("486578456e636f646564537472696e67", Encoding.HEX, b"HexEncodedString"),
        ("", Encoding.HEX, b""),
    ],
)
def test_a_value_becomes_bytes(value: str, encoding: Encoding, expected: bytes) -> None:
    """The encoding is undone, and nothing else is touched."""
    assert decode(value, encoding) == expected


@pytest.mark.parametrize(
    ("value", "encoding"),
    [
        ("QmFzZTY0RW5jb2RlZFN0cmluZw", Encoding.BASE64),
        ("QmFz ZTY0", Encoding.BASE64),
        ("QmF-ZTY_", Encoding.BASE64),
        ("=QmFz", Encoding.BASE64),
        ("QQ==QQ==", Encoding.BASE64),
        ("QmF\u00e4", Encoding.BASE64),
        ("486", Encoding.HEX),
        ("0x48", Encoding.HEX),
        ("48 65", Encoding.HEX),
        ("zz", Encoding.HEX),
        ("4\u0668", Encoding.HEX),
        ("\ud800", Encoding.UTF8),
    ],
)
def test_a_value_of_another_encoding_is_an_error_that_does_not_show_it(
    value: str, encoding: Encoding
) -> None:
    """Strict, and silent about the value, in the chain of causes too."""
    with pytest.raises(ObjectUnusableError) as caught:
        decode(value, encoding)
    assert value not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@given(st.binary())
def test_bytes_come_back_whole(content: bytes) -> None:
    """What was encoded by the library is decoded to the same bytes."""
    assert decode(base64.b64encode(content).decode(), Encoding.BASE64) == content
    assert decode(content.hex(), Encoding.HEX) == content
