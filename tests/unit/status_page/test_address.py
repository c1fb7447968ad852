"""`keyferry.status_page.address`: the page is served to this machine only."""

from __future__ import annotations

import pytest

from keyferry.errors import SettingInvalidError
from keyferry.status_page.address import parse_loopback


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8090", ("127.0.0.1", 8090)),
        ("127.9.9.9:1", ("127.9.9.9", 1)),
        ("localhost:8090", ("localhost", 8090)),
        ("[::1]:8090", ("::1", 8090)),
    ],
)
def test_loopback_address_is_accepted(text: str, address: tuple[str, int]) -> None:
    """Of IPv4 and IPv6."""
    assert address == parse_loopback(text, "--status-page-addr")


@pytest.mark.parametrize(
    "text", [":8090", "0.0.0.0:8090", "[::]:8090", "10.0.0.1:80", "example.com:80", "127.1:80"]
)
def test_other_address_is_refused(text: str) -> None:
    """The page has no login."""
    with pytest.raises(SettingInvalidError, match=r"--status-page-addr: .* is not a loopback"):
        parse_loopback(text, "--status-page-addr")


@pytest.mark.parametrize("text", ["8090", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:70000", "a:²"])
def test_malformed_address_is_refused(text: str) -> None:
    """With an example of a valid one."""
    with pytest.raises(SettingInvalidError, match=r"invalid address .* 127\.0\.0\.1:8090"):
        parse_loopback(text, "--status-page-addr")
