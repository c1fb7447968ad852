"""Local addresses, however they are written, and patterns of permitted addresses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyferry.net.addresses import (
    AddressPattern,
    is_listed,
    is_local_address,
    is_local_name,
    parse_address_pattern,
    parse_ip,
)

LOCAL = [
    "127.0.0.1",
    "127.255.1.2",
    "127.1",
    "127.0.1",
    "0x7f000001",
    "0x7f.1",
    "0X7F.0.0.1",
    "2130706433",
    "017700000001",
    "0177.0.0.1",
    "127.0.0.1.",
    "0.0.0.0",
    "0",
    "0.1.2.3",
    "169.254.169.254",
    "0xa9fea9fe",
    "169.254.43518",
    "168.63.129.16",
    "100.100.100.200",
    "224.0.0.1",
    "255.255.255.255",
    "240.0.0.1",
    "::",
    "::1",
    "[::1]",
    "0:0:0:0:0:0:0:1",
    "fe80::1",
    "[fe80::1%25eth0]",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "::ffff:127.0.0.1",
    "[::ffff:7f00:1]",
    "::ffff:169.254.169.254",
    "::7f00:1",
    "2002:7f00:1::",
    "64:ff9b::7f00:1",
    "64:ff9b:1::a9fe:a9fe",
    "2001:0:0:0:0:0:80ff:fffe",
    "fd00:ec2::254",
]
REMOTE = [
    "10.0.0.1",
    "192.168.1.1",
    "172.16.0.1",
    "100.64.0.1",
    "8.8.8.8",
    "134744072",
    "fd00::1",
    "2606:4700::1111",
    "::ffff:10.0.0.1",
    "64:ff9b::808:808",
]


@pytest.mark.parametrize("text", LOCAL)
def test_local_address_is_recognized_in_every_spelling(text: str) -> None:
    address = parse_ip(text)
    assert address is not None
    assert is_local_address(address)


@pytest.mark.parametrize("text", REMOTE)
def test_other_addresses_are_not_local(text: str) -> None:
    address = parse_ip(text)
    assert address is not None
    assert not is_local_address(address)


@pytest.mark.parametrize(
    "text", ["vault", "127.0.0.1.example.com", "1.2.3.4.5", "256.1.1.1", "1e3", "0x", "::g", "1..2"]
)
def test_names_are_not_addresses(text: str) -> None:
    assert parse_ip(text) is None or text == "0x"


@given(st.text(max_size=40))
def test_any_text_is_an_address_or_a_name(text: str) -> None:
    parse_ip(text)
    is_local_name(text)


@given(st.ip_addresses())
def test_standard_spelling_is_parsed(address: object) -> None:
    assert parse_ip(str(address)) == address


@pytest.mark.parametrize(
    "name", ["localhost", "LocalHost.", "a.localhost", "localhost.localdomain", "", "."]
)
def test_names_of_this_machine_are_local(name: str) -> None:
    assert is_local_name(name)
    assert not is_local_name(f"{name.strip('.')}.example.com")


@pytest.mark.parametrize(
    ("pattern", "host", "port", "permitted"),
    [
        ("vault.example.com", "vault.example.com", 8200, True),
        ("vault.example.com", "VAULT.example.com.", 443, True),
        ("vault.example.com", "x.vault.example.com", 443, False),
        ("vault.example.com:8200", "vault.example.com", 8200, True),
        ("vault.example.com:8200", "vault.example.com", 8201, False),
        ("vault-*.example.com", "vault-0.example.com", 1, True),
        ("vault-*.example.com", "vault-0.evil.example.com", 1, False),
        ("*.example.com", "a.b.example.com", 1, True),
        ("*.example.com", "example.com", 1, False),
        ("*.example.com", "evilexample.com", 1, False),
        ("*.example.com", "example.com.evil.test", 1, False),
        ("*", "vault", 1, True),
        ("*", "vault.example.com", 1, False),
        ("a.*.com", "a.b.com", 1, True),
        ("a.*.com", "a.b.c.com", 1, False),
        ("10.0.0.1", "10.0.0.1", 1, True),
        ("10.0.0.1", "167772161", 1, True),
        ("10.0.0.*", "10.0.0.1", 1, False),
        ("[fd00::1]:8200", "fd00:0::1", 8200, True),
        ("[fd00::1]", "[fd00::2]", 8200, False),
    ],
)
def test_pattern_permits_hosts(pattern: str, host: str, port: int, permitted: bool) -> None:
    """A name and an IP address never match each other."""
    assert permitted == is_listed([parse_address_pattern(pattern)], host, port)


def test_pattern_is_parsed() -> None:
    assert AddressPattern("*.example.com", 8200) == parse_address_pattern(" *.Example.com:8200 ")


@pytest.mark.parametrize(
    "text",
    ["", "https://x", "x:0", "x:65536", "x:y", "x/y", "[x]", "[::1", "a b", "x:1:2", "user@x"],
)
def test_malformed_pattern_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not HOST|invalid IPv6"):
        parse_address_pattern(text)
