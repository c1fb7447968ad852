"""The address of the status page: it has no login, so only this machine may reach it. [pure]"""

from __future__ import annotations

import ipaddress

from keyferry.errors import SettingInvalidError


def parse_loopback(text: str, flag: str) -> tuple[str, int]:
    """Return host and port of a loopback address.

    Args:
        text: such as `127.0.0.1:8090`.
        flag: that has the value, for messages.

    Raises:
        SettingInvalidError: it is not one.
    """
    host, colon, port = text.rpartition(":")
    remedy = "Use an address such as 127.0.0.1:8090; kubectl keyferry ui forwards a port to it."
    if not colon or not (port.isascii() and port.isdecimal()) or int(port) > 65535:
        raise SettingInvalidError(f"invalid address {text[:80]!r} for {flag}", remedy)
    name = host.removeprefix("[").removesuffix("]")
    if name != "localhost" and not _is_loopback(name):
        raise SettingInvalidError(
            f"{flag}: {text[:80]!r} is not a loopback address; the page shows names and has no"
            " login",
            remedy,
        )
    return name, int(port)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
