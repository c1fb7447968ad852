"""base64url without padding."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyferry.formats.base64url import decode_base64url, encode_base64url


@given(st.binary())
def test_what_was_encoded_is_decoded(data: bytes) -> None:
    text = encode_base64url(data)
    assert not set("+/=") & set(text)
    assert data == decode_base64url(text)


def test_padding_is_accepted() -> None:
    assert b"ab" == decode_base64url("YWI=") == decode_base64url("YWI")


@pytest.mark.parametrize("text", ["a", "a b", "ä", "YW=I"])
def test_malformed_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode_base64url(text)
