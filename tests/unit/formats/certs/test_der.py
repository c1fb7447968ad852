"""keyferry.formats.certs.der: the structure of DER and BER."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyferry.formats.certs.der import (
    MAX_DEPTH,
    MAX_ELEMENTS,
    OCTET_STRING,
    SEQUENCE,
    DerError,
    read_element,
    read_elements,
    walk,
)
from tests.fakes.der import encode, integer, octets, sequence


def test_definite_and_indefinite_lengths_give_the_same_elements() -> None:
    """BER files of some tools have indefinite lengths."""
    inner = sequence(integer(1), octets(b"x" * 300))
    nested = encode(SEQUENCE, encode(SEQUENCE, inner, indefinite=True), indefinite=True)
    assert read_element(nested).content == encode(SEQUENCE, inner, indefinite=True)
    assert read_element(read_element(nested).content).content == inner


@pytest.mark.parametrize("indefinite", [False, True])
def test_parts_of_a_string_are_joined(indefinite: bool) -> None:
    """A string in parts must not hide an iteration count."""
    parts = encode(0x24, octets(b"ab"), encode(0x24, octets(b"c"), octets(b"")))
    string = encode(0x24, parts, octets(b"d"), indefinite=indefinite)
    assert read_element(string).octets() == b"abcd"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x30",
        b"\x30\x05\x02",
        b"\x30\x85\x00\x00\x00\x00\x01\x00",
        b"\x1f\x81\x00\x00",
        b"\x04\x80\x00\x00",
        b"\x30\x80\x02\x01\x01",
        b"\x30\x84\xff\xff\xff\xff",
    ],
)
def test_malformed_values_are_refused(data: bytes) -> None:
    """Cut off, too long, or of a form that no key has."""
    with pytest.raises(DerError):
        read_element(data)


def test_depth_is_limited() -> None:
    """Without recursion, and before all levels are read."""
    nested, string, indefinite = b"", octets(b"x"), b""
    for _ in range(10_000):
        nested = encode(SEQUENCE, nested)
        string = encode(0x24, string)
        indefinite = encode(SEQUENCE, indefinite, indefinite=True)
    with pytest.raises(DerError, match="levels"):
        list(walk(read_element(nested)))
    with pytest.raises(DerError, match="deeply"):
        read_element(string).octets()
    with pytest.raises(DerError, match="deeply"):
        read_element(indefinite)


def test_number_of_elements_is_limited() -> None:
    """Half a million values in 1 MiB would take seconds."""
    many = encode(SEQUENCE, b"\x05\x00" * (MAX_ELEMENTS + 1))
    with pytest.raises(DerError, match="elements"):
        list(walk(read_element(many)))
    with pytest.raises(DerError, match="elements"):
        read_element(many).children()


@pytest.mark.parametrize("content", [b"\x30\x06\x01\x02\x03\x04\x05\x06", b"\x30\x7f", b"\x02"])
def test_random_bytes_in_a_string_are_skipped(content: bytes) -> None:
    """A salt may begin like a sequence."""
    tree = read_element(sequence(octets(content), integer(7)))
    found = [element.tag for element in walk(tree, into_strings=True)]
    assert found[:2] == [SEQUENCE, OCTET_STRING]
    assert found[-1] == read_element(integer(7)).tag


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    """Nothing else is raised."""
    try:
        for element in read_elements(data):
            assert len(list(walk(element, into_strings=True))) <= MAX_ELEMENTS
            element.octets()
    except DerError:
        pass
    assert MAX_DEPTH < 100
