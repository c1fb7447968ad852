"""The guard refuses addresses of the node, and nothing else."""

from __future__ import annotations

import socket

import pytest

from keyferry.net.address_guard import AddressGuard
from keyferry.net.addresses import ForbiddenAddressError


def _own_address() -> str:
    """Return the address of an interface of this machine; a documentation address has a route.

    A machine without a route has no interface but loopback.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "[::1]", "localhost", "2130706433", "[::ffff:7f00:1]", "x.localhost."]
)
def test_local_hosts_are_refused_before_they_are_resolved(host: str) -> None:
    with pytest.raises(ForbiddenAddressError):
        AddressGuard().check_host(host)


def test_addresses_of_the_interfaces_of_this_machine_are_refused() -> None:
    with pytest.raises(ForbiddenAddressError):
        AddressGuard().check_host(_own_address())


def test_configured_addresses_of_the_node_are_refused() -> None:
    """In a pod, no interface has them."""
    AddressGuard().check_host("192.0.2.7")
    with pytest.raises(ForbiddenAddressError):
        AddressGuard(["192.0.2.7", "2001:db8::7"]).check_host("::ffff:192.0.2.7")
    with pytest.raises(ForbiddenAddressError):
        AddressGuard(["192.0.2.7", "2001:db8::7"]).check_host("2001:db8::7")


def test_socket_is_created_only_for_a_permitted_address() -> None:
    """The address that is connected to counts, whatever the name resolved to before."""
    guard, kind = AddressGuard(), socket.SOCK_STREAM
    guard.new_socket((socket.AF_INET, kind, 0, "", ("192.0.2.7", 443))).close()
    for family, address in (
        (socket.AF_INET, ("127.0.0.1", 443)),
        (socket.AF_INET, ("169.254.169.254", 80)),
        (socket.AF_INET6, ("::1", 443, 0, 0)),
        (socket.AF_INET6, ("fe80::1%lo", 443, 0, 1)),
    ):
        with pytest.raises(ForbiddenAddressError):
            guard.new_socket((family, kind, 0, "", address))
