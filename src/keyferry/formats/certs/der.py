"""Reads the structure of DER and BER, without recursion and within limits; writes DER. [pure]

The reader checks sizes before a library does work that depends on them, so it refuses what it does
not understand: tags above 30, lengths above 2^32, and values that end after their container.

Source: https://www.itu.int/rec/T-REC-X.690
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

INTEGER = 0x02
BIT_STRING = 0x03
OCTET_STRING = 0x04
NULL = 0x05
OBJECT_IDENTIFIER = 0x06
SEQUENCE = 0x30
SET = 0x31
CONTEXT_0 = 0xA0
"""The tag [0] around another value."""

MAX_DEPTH = 32
MAX_ELEMENTS = 20_000
"""Elements that `walk` visits. A chain of 50 certificates has about 8,000."""

_FIRST_OCTETS = {bytes((SEQUENCE,)), bytes((INTEGER,))}
_CONSTRUCTED = 0x20
_TAG_NUMBER = 0x1F
_INDEFINITE = 0x80
_END_OF_CONTENTS = 2


class DerError(Exception):
    """The bytes are not DER or BER that this module reads. The message quotes none of them."""


@dataclass(frozen=True, slots=True)
class Element:
    """One value with its tag.

    Attributes:
        tag: the identifier octet: class, constructed bit and number.
        content: the content octets, without the end marker of an indefinite length.
    """

    tag: int
    content: bytes = field(repr=False)

    @property
    def is_constructed(self) -> bool:
        """Whether the content consists of other elements."""
        return bool(self.tag & _CONSTRUCTED)

    def children(self) -> tuple[Element, ...]:
        """Return the elements of a constructed value.

        Raises:
            DerError: the value is not constructed, or its content is malformed.
        """
        if not self.is_constructed:
            raise DerError("a primitive value in place of a constructed one")
        children = tuple(islice(read_elements(self.content), MAX_ELEMENTS + 1))
        if len(children) > MAX_ELEMENTS:
            raise DerError("too many elements")
        return children

    def sequence(self) -> tuple[Element, ...]:
        """Return the elements of a SEQUENCE that is not empty.

        Raises:
            DerError: it is something else.
        """
        if self.tag != SEQUENCE or not (children := self.children()):
            raise DerError("something else in place of a sequence")
        return children

    def explicit(self) -> Element:
        """Return the value in an explicit tag [0].

        Raises:
            DerError: it is something else.
        """
        if self.tag != CONTEXT_0:
            raise DerError("something else in place of a tagged value")
        return read_element(self.content)

    def octets(self) -> bytes:
        """Return the content of a string; BER may split it into parts, which may be split again.

        Raises:
            DerError: a part is malformed, or the parts are nested too deeply.
        """
        if not self.is_constructed:
            return self.content
        parts: list[bytes] = []
        levels = [read_elements(self.content)]
        while levels:
            part = next(levels[-1], None)
            if part is None:
                levels.pop()
            elif not part.is_constructed:
                parts.append(part.content)
            elif len(levels) >= MAX_DEPTH:
                raise DerError("a string is nested too deeply")
            else:
                levels.append(read_elements(part.content))
        return b"".join(parts)

    def encoded(self) -> bytes:
        """Return the whole value, with a definite length."""
        return encode(self.tag, self.content)

    def integer_bits(self) -> int:
        """Return the number of bits of an INTEGER, without reading its value."""
        return 8 * len(self.content.lstrip(b"\0"))

    def small_integer(self) -> int:
        """Return the value of an INTEGER of at most 8 octets, without sign; a larger one as 2^64.

        Raises:
            DerError: it is not an INTEGER, or it is negative.
        """
        if self.tag != INTEGER or not self.content or self.content[0] & 0x80:
            raise DerError("a value is not a positive INTEGER")
        digits = self.content.lstrip(b"\0")
        return int.from_bytes(digits) if len(digits) <= 8 else 1 << 64


def encode(tag: int, *parts: bytes) -> bytes:
    """Return one value of definite length.

    Args:
        tag: the identifier octet.
        parts: the content octets.
    """
    content = b"".join(parts)
    size = len(content)
    if size < _INDEFINITE:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes((tag, _INDEFINITE | len(length))) + length + content


def read_element(data: bytes) -> Element:
    """Return the element at the start of `data`; bytes after it are ignored, as OpenSSL does.

    Raises:
        DerError: it is malformed.
    """
    for element in read_elements(data):
        return element
    raise DerError("there is no value")


def read_elements(data: bytes) -> Iterator[Element]:
    """Yield the elements that follow one another in `data`.

    Raises:
        DerError: one of them is malformed.
    """
    position = 0
    while position < len(data):
        tag, start, length = _header(data, position)
        if length is None:
            end = _end_of_indefinite(data, start)
            yield Element(tag, data[start:end])
            position = end + _END_OF_CONTENTS
        else:
            position = start + length
            yield Element(tag, data[start:position])


def walk(element: Element, *, into_strings: bool = False) -> Iterator[Element]:
    """Yield `element` and all elements below it, in the order of the bytes.

    Args:
        element: where to start.
        into_strings: whether to read octet strings and bit strings, which contain DER in keys. What
            turns out not to be DER there, such as a random salt, is skipped.

    Raises:
        DerError: a constructed value is malformed, or there are too many elements or levels.
    """
    levels: list[Iterator[Element]] = [iter((element,))]
    first_in_string: int | None = None
    count = 0
    while levels:
        if first_in_string is not None and len(levels) < first_in_string:
            first_in_string = None
        try:
            current = next(levels[-1], None)
        except DerError:
            if first_in_string is None:
                raise
            current = None
        if current is None:
            levels.pop()
            continue
        count += 1
        if count > MAX_ELEMENTS or len(levels) > MAX_DEPTH:
            raise DerError("too many elements or levels")
        yield current
        if current.is_constructed:
            levels.append(read_elements(current.content))
        elif into_strings and current.tag in {OCTET_STRING, BIT_STRING}:
            levels.append(_embedded(current))
            first_in_string = first_in_string or len(levels)


def _embedded(string: Element) -> Iterator[Element]:
    """Yield what a string begins with if it may be the DER of a key or of a number."""
    content = string.content[1:] if string.tag == BIT_STRING else string.content
    return islice(read_elements(content), 1 if content[:1] in _FIRST_OCTETS else 0)


def _header(data: bytes, position: int) -> tuple[int, int, int | None]:
    """Return tag, start of the content and its length; None for an indefinite length."""
    header = data[position : position + 6]
    if len(header) < 2:
        raise DerError("a value is cut off")
    tag, first = header[0], header[1]
    if tag & _TAG_NUMBER == _TAG_NUMBER:
        raise DerError("a tag above 30")
    if first < _INDEFINITE:
        start, length = position + 2, first
    elif first == _INDEFINITE:
        if not tag & _CONSTRUCTED:
            raise DerError("a primitive value of indefinite length")
        return tag, position + 2, None
    else:
        octets = first & 0x7F
        if octets > 4 or len(header) < 2 + octets:
            raise DerError("a length is too large or cut off")
        start, length = position + 2 + octets, int.from_bytes(header[2 : 2 + octets])
    if start + length > len(data):
        raise DerError("a value ends after its container")
    return tag, start, length


def _end_of_indefinite(data: bytes, position: int) -> int:
    """Return where the end marker of an indefinite length begins."""
    open_values = 1
    while True:
        if data[position : position + _END_OF_CONTENTS] == b"\0\0":
            open_values -= 1
            if not open_values:
                return position
            position += _END_OF_CONTENTS
            continue
        _, start, length = _header(data, position)
        if length is None:
            open_values += 1
            if open_values > MAX_DEPTH:
                raise DerError("indefinite lengths are nested too deeply")
            position = start
        else:
            position = start + length
