"""Prevents connections to the node itself for addresses that a SecretProviderClass names.

The check is made on the address that is connected to, after the name was resolved, so that a name
whose address changes between check and connection has no effect.
"""

from __future__ import annotations

import socket
from ipaddress import IPv6Address
from typing import TYPE_CHECKING

from keyferry.net.addresses import (
    ForbiddenAddressError,
    embedded_ipv4,
    is_local_address,
    is_local_name,
    parse_ip,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiohappyeyeballs import AddrInfoType

    from keyferry.net.addresses import IpAddress

_ANY_PORT = 9


class AddressGuard:
    """Refuses loopback, link-local, multicast and metadata addresses, and those of this node.

    Args:
        node_addresses: addresses of the node that no interface of this process has.
    """

    def __init__(self, node_addresses: Iterable[str] = ()) -> None:
        self._node_addresses = frozenset(filter(None, map(parse_ip, node_addresses)))

    def check_host(self, host: str) -> None:
        """Check a host before it is resolved, here or by a proxy.

        Raises:
            ForbiddenAddressError: it is a local address or a name of one.
        """
        address = parse_ip(host)
        if is_local_name(host) if address is None else self._is_forbidden(address):
            raise ForbiddenAddressError

    def new_socket(self, info: AddrInfoType) -> socket.socket:
        """Return a socket for a connection to the address in `info`.

        Raises:
            ForbiddenAddressError: the address is not permitted.
        """
        family, kind, protocol, _, address = info
        self.check_host(str(address[0]))
        return socket.socket(family, kind, protocol)

    def _is_forbidden(self, address: IpAddress) -> bool:
        if isinstance(address, IPv6Address):
            address = embedded_ipv4(address) or address
        return (
            is_local_address(address) or address in self._node_addresses or _is_own_address(address)
        )


def _is_own_address(address: IpAddress) -> bool:
    """Return whether an interface of this machine has the address.

    To reach one of its own addresses, the kernel chooses that address as the source, too. No packet
    is sent.
    """
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((str(address), _ANY_PORT))
            return parse_ip(str(probe.getsockname()[0])) == address
    except OSError:
        return False  # no route, so no connection either
