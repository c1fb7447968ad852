"""keyferry.formats.encodings: why a value is not base64 or hex."""

from __future__ import annotations

from typing import Literal

import pytest

from keyferry.formats.encodings import encoding_mistake


@pytest.mark.parametrize(
    ("value", "encoding", "mistake"),
    [
        (b"", "base64", "it has only blanks or line breaks"),
        (b"-----BEGIN CERTIFICATE-----\n", "base64", "it is PEM"),
        (b"YWJ jZA==", "base64", "it contains blanks"),
        (b"-_-_", "base64", "it has the URL-safe alphabet, with - and _"),
        (b"p@ssw0rd", "base64", "it contains characters that base64 does not have"),
        (b"YWJjZA", "base64", "its padding (=) is missing, or it is cut off"),
        (b"YW\r\nJjZA", "base64", "its padding (=) is missing, or it is cut off"),
        (b"YW==JjZA", "base64", "its padding (=) is in the wrong place"),
        (b"0xff", "hex", "it begins with 0x"),
        (b"ff\n", "hex", "it contains blanks or line breaks"),
        (b"fg", "hex", "it contains characters that are not hexadecimal digits"),
        (b"fff", "hex", "it has an odd number of digits"),
    ],
)
def test_mistake_is_named_without_the_value(
    value: bytes, encoding: Literal["base64", "hex"], mistake: str
) -> None:
    """Each kind of mistake has its own clause."""
    assert mistake == encoding_mistake(value, encoding)
