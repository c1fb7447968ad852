"""Which addresses belong to the node or to its network link, however they are written. [pure]"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Iterable

IpAddress = IPv4Address | IPv6Address

_NUMBER = re.compile(r"0[xX][0-9A-Fa-f]*|[0-9]+")
_LOCAL_NAMES = ("localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback")
_METADATA_SERVICES = frozenset(
    (
        IPv4Address("100.100.100.200"),
        IPv4Address("168.63.129.16"),
        IPv4Address("192.0.0.192"),
        IPv6Address("fd00:ec2::254"),
        IPv6Address("fd20:ce::254"),
    )
)
"""Services of clouds that trust the node, at addresses that are not link-local."""
_THIS_NETWORK = ip_network("0.0.0.0/8")
_NAT64 = (ip_network("64:ff9b::/96"), ip_network("64:ff9b:1::/48"))
_IPV4_COMPATIBLE = ip_network("::/96")


class ForbiddenAddressError(OSError):
    """A SecretProviderClass names an address that it may not name."""

    def __init__(self) -> None:
        super().__init__(0, "the address is not permitted for SecretProviderClasses")


def parse_ip(host: str) -> IpAddress | None:
    """Return the IP address that `host` means; None for a name.

    It accepts whatever some resolver accepts: brackets, a zone, a trailing dot, and IPv4 addresses
    such as `127.1`, `0x7f000001` or `2130706433`.
    """
    text = host.strip().removeprefix("[").removesuffix("]").partition("%")[0].rstrip(".")
    try:
        return IPv6Address(text) if ":" in text else _parse_ipv4(text)
    except ValueError:
        return None


def _parse_ipv4(text: str) -> IPv4Address | None:
    """Parse an IPv4 address like inet_aton(3)."""
    parts = text.split(".")
    if len(parts) > 4 or not all(_NUMBER.fullmatch(part) for part in parts):
        return None
    *high, last = (_parse_number(part) for part in parts)
    if any(part > 255 for part in high) or last >= 1 << 8 * (4 - len(high)):
        return None
    value = last
    for index, part in enumerate(high):
        value |= part << 8 * (3 - index)
    return IPv4Address(value)


def _parse_number(text: str) -> int:
    if text[:2].lower() == "0x":
        return int(text[2:] or "0", 16)
    return int(text, 8 if text.startswith("0") and text != "0" else 10)


def is_local_name(host: str) -> bool:
    """Return whether the name `host` means this machine by convention."""
    name = host.strip().rstrip(".").casefold()
    return not name or name in _LOCAL_NAMES or name.endswith(".localhost")


def is_local_address(address: IpAddress) -> bool:
    """Return whether an address is loopback, link-local, multicast, unspecified or similar.

    The same holds for an IPv6 address that contains such an IPv4 address. Addresses of the
    interfaces of this machine are not known here.
    """
    if address in _METADATA_SERVICES:
        return True
    if isinstance(address, IPv6Address):
        embedded = embedded_ipv4(address)
        if embedded is not None:
            return is_local_address(embedded)
        if address.is_site_local:
            return True
    return (
        address.is_loopback
        or address.is_link_local
        or address.is_multicast
        or address.is_unspecified
        or address.is_reserved
        or address in _THIS_NETWORK
    )


def embedded_ipv4(address: IPv6Address) -> IPv4Address | None:
    """Return the IPv4 address in an address of a transition mechanism; None for other addresses."""
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    low = int(address) & 0xFFFFFFFF
    compatible = address in _IPV4_COMPATIBLE and low > 0xFFFF
    if compatible or any(address in network for network in _NAT64):
        return IPv4Address(low)
    return None


# --- Lists of permitted addresses -----------------------------------------------------------------

_PATTERN = re.compile(
    r"(?P<host>(?:\*\.)?[A-Za-z0-9_*-]+(?:\.[A-Za-z0-9_*-]+)*\.?|\[[0-9A-Fa-f:.]+\])"
    r"(?::(?P<port>[0-9]{1,5}))?"
)


class AddressPattern(Struct, frozen=True):
    """A pattern of hosts, with a port or for all ports.

    Attributes:
        host: name or IP address in lower case. `*` matches a part of one label; a leading `*.`
            matches one or more labels.
        port: the port; None for all.
    """

    host: str
    port: int | None = None

    def matches(self, host: str, port: int) -> bool:
        """Return whether the pattern permits `host:port`.

        Args:
            host: name or IP address, with or without brackets.
            port: the port that is connected to.
        """
        if self.port not in (None, port):
            return False
        address, own_address = parse_ip(host), parse_ip(self.host)
        if address is not None or own_address is not None:
            return address == own_address
        name = host.rstrip(".").casefold()
        suffix = self.host.removeprefix("*.")
        labels = "[^.]*".join(re.escape(part) for part in suffix.split("*"))
        above = r"(?:[^.]+\.)+" if self.host.startswith("*.") else ""
        return re.fullmatch(above + labels, name) is not None


def parse_address_pattern(text: str) -> AddressPattern:
    """Parse a pattern such as `vault.example.com`, `*.example.com:8200` or `[fd00::1]:8200`.

    Raises:
        ValueError: the pattern is invalid.
    """
    match = _PATTERN.fullmatch(text.strip())
    if match is None or int(match["port"] or 1) not in range(1, 1 << 16):
        raise ValueError("is not HOST or HOST:PORT")
    host = match["host"].rstrip(".").casefold()
    if host.startswith("[") and parse_ip(host) is None:
        raise ValueError("contains an invalid IPv6 address")
    return AddressPattern(host, int(match["port"]) if match["port"] else None)


def is_listed(patterns: Iterable[AddressPattern], host: str, port: int) -> bool:
    """Return whether one of `patterns` permits `host:port`."""
    return any(pattern.matches(host, port) for pattern in patterns)
