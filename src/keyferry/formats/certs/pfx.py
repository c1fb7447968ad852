"""The structure of PKCS#12: contents, bags, and what is visible of their encryption. [pure]

Source: https://www.rfc-editor.org/rfc/rfc7292
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING

from keyferry.formats.certs.der import (
    CONTEXT_0,
    INTEGER,
    NULL,
    OBJECT_IDENTIFIER,
    OCTET_STRING,
    SEQUENCE,
    DerError,
    Element,
    encode,
    read_element,
)
from keyferry.formats.certs.limits import (
    check_object_count,
    check_sizes,
    check_work,
    derivations_of_key,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

_DATA = bytes.fromhex("2a864886f70d010701")
_ENCRYPTED_DATA = bytes.fromhex("2a864886f70d010706")
_KEY_BAG = bytes.fromhex("2a864886f70d010c0a0101")
_SHROUDED_KEY_BAG = bytes.fromhex("2a864886f70d010c0a0102")
_SAFE_CONTENTS_BAG = bytes.fromhex("2a864886f70d010c0a0106")
_SHA256 = bytes.fromhex("608648016503040201")
_SALT = b"keyferry"
_STRING_NUMBER = 0x1F
_MAX_NESTED_BAGS = 8


@dataclass(frozen=True, slots=True)
class Bag:
    """What PKCS#12 contains: a key, a certificate, or something else.

    Attributes:
        kind: its object identifier.
        value: its content.
        element: the whole bag.
    """

    kind: bytes
    value: Element = field(repr=False)
    element: Element = field(repr=False)

    @property
    def is_key(self) -> bool:
        """Whether it contains a private key, encrypted or not."""
        return self.kind in {_KEY_BAG, _SHROUDED_KEY_BAG}


@dataclass(frozen=True, slots=True)
class Pfx:
    """A PKCS#12 file.

    Attributes:
        infos: its contents, which are of type data or encryptedData.
        mac: its MacData, if it has one.
    """

    infos: tuple[Element, ...] = field(repr=False)
    mac: Element | None = field(default=None, repr=False)

    def check(self, source: str) -> None:
        """Check the iteration counts, the number of objects and the visible keys.

        Raises:
            SecretDataError: a limit is exceeded.
            DerError: it is malformed.
        """
        algorithms: list[Element] = []
        bags = 0
        for info in self.infos:
            kind, *content = info.sequence()
            if kind.content == _ENCRYPTED_DATA and content:
                algorithms.append(_content_algorithm(content[0].explicit()))
                continue
            for bag in _bags(info):
                bags += 1
                check_object_count(bags, source)
                if bag.kind == _SHROUDED_KEY_BAG:
                    algorithms += derivations_of_key(bag.value)
                elif bag.kind == _KEY_BAG:
                    check_sizes(bag.value, source)
        check_object_count(len(algorithms), source)
        iterations = 0 if self.mac is None else _mac_iterations(self.mac, algorithms)
        check_work(algorithms, source, iterations=iterations)

    def visible_key(self) -> bytes | None:
        """Return the first private key that is not inside an encrypted content; None without one.

        It is PKCS#8, encrypted or not.

        Raises:
            DerError: the file is malformed.
        """
        for info in self._plain():
            for bag in _top_bags(info):
                if bag.is_key:
                    return bag.value.encoded()
        return None

    def without_visible_keys(self, *, empty_password: bool) -> bytes:
        """Return the same file without those keys, and with another MAC or none.

        Args:
            empty_password: whether to add a MAC for the empty password. It makes OpenSSL use an
                empty text; without a MAC, OpenSSL assumes that there is no password.

        Raises:
            DerError: the file is malformed.
        """
        plain = set(map(id, self._plain()))
        infos = (
            _data(
                encode(
                    SEQUENCE,
                    *(bag.element.encoded() for bag in _top_bags(info) if not bag.is_key),
                )
            )
            if id(info) in plain
            else info.encoded()
            for info in self.infos
        )
        content = encode(SEQUENCE, *infos)
        mac = _mac_of_empty_password(content) if empty_password else b""
        return encode(SEQUENCE, encode(INTEGER, b"\3"), _data(content), mac)

    def _plain(self) -> list[Element]:
        return [info for info in self.infos if info.sequence()[0].content == _DATA]


def read_pfx(der: bytes) -> Pfx:
    """Read PKCS#12 in DER or BER.

    Raises:
        DerError: it is malformed, or not PKCS#12.
    """
    version, *fields = read_element(der).sequence()
    if version.tag != INTEGER or not fields:
        raise DerError("not PKCS#12")
    infos = read_element(_data_octets(fields[0])).children()
    for info in infos:
        if info.sequence()[0].content not in {_DATA, _ENCRYPTED_DATA}:
            raise DerError("PKCS#12 with an unknown kind of content")
    return Pfx(infos, fields[1] if len(fields) > 1 else None)


def _top_bags(info: Element) -> Iterator[Bag]:
    """Yield the bags of a content of type data, but not the bags in a bag."""
    for element in read_element(_data_octets(info)).children():
        yield _bag(element)


def _bags(info: Element) -> Iterator[Bag]:
    """Yield all bags of a content of type data; a bag may contain bags."""
    levels = [_top_bags(info)]
    while levels:
        bag = next(levels[-1], None)
        if bag is None:
            levels.pop()
        elif bag.kind != _SAFE_CONTENTS_BAG:
            yield bag
        elif len(levels) > _MAX_NESTED_BAGS:
            raise DerError("bags are nested too deeply")
        else:
            levels.append(_bag(element) for element in bag.value.children())


def _bag(element: Element) -> Bag:
    kind, *content = element.sequence()
    if kind.tag != OBJECT_IDENTIFIER or not content:
        raise DerError("a malformed bag")
    return Bag(kind.content, content[0].explicit(), element)


def _mac_iterations(mac: Element, algorithms: list[Element]) -> int:
    """Return the iteration count of the MAC; add its algorithm, which has a count in PBMAC1."""
    digest, *others = mac.sequence()
    algorithms.append(digest.sequence()[0])
    return others[1].small_integer() if len(others) > 1 else 1


def _mac_of_empty_password(content: bytes) -> bytes:
    """Return MacData with one iteration (RFC 7292, appendix B.2, for one block of SHA-256)."""
    block, purpose = 64, b"\3"
    key = sha256(purpose * block + _SALT * (block // len(_SALT)) + b"\0" * block).digest()
    algorithm = encode(SEQUENCE, encode(OBJECT_IDENTIFIER, _SHA256), encode(NULL))
    digest = encode(OCTET_STRING, hmac.digest(key, content, "sha256"))
    info = encode(SEQUENCE, algorithm, digest)
    return encode(SEQUENCE, info, encode(OCTET_STRING, _SALT))


def _data_octets(info: Element) -> bytes:
    """Return the bytes in a ContentInfo of type data."""
    kind, *content = info.sequence()
    if kind.content != _DATA or not content:
        raise DerError("something else in place of data")
    octets = content[0].explicit()
    if octets.tag & _STRING_NUMBER != OCTET_STRING:
        raise DerError("something else in place of octets")
    return octets.octets()


def _data(content: bytes) -> bytes:
    """Return a ContentInfo of type data."""
    octets = encode(OCTET_STRING, content)
    return encode(SEQUENCE, encode(OBJECT_IDENTIFIER, _DATA), encode(CONTEXT_0, octets))


def _content_algorithm(encrypted: Element) -> Element:
    """Return the algorithm of an EncryptedData."""
    fields = encrypted.sequence()
    content = fields[1].sequence() if len(fields) > 1 else ()
    if len(content) < 2:
        raise DerError("malformed encrypted contents")
    return content[1]
