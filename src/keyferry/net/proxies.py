"""Selects the proxy for a host from environment variables. [pure]

HTTPS_PROXY, HTTP_PROXY and NO_PROXY work as in Go programs: lower-case names take precedence, and
a loopback address is never behind a proxy.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from keyferry.errors import SettingInvalidError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Proxies:
    """The proxies of one process.

    Attributes:
        https: proxy URL for https URLs, with user and password; "" for none.
        http: proxy URL for http URLs; "" for none.
        bypassed: hosts, domains and networks that need no proxy; "*" for all.
    """

    https: str = field(default="", repr=False)
    http: str = field(default="", repr=False)
    bypassed: tuple[str, ...] = ()

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Proxies:
        """Read the proxies from environment variables.

        Raises:
            SettingInvalidError: a variable is not a valid URL.
        """
        bypassed = (name.strip().lower() for name in _variable(environment, "NO_PROXY").split(","))
        return cls(
            _proxy_url(environment, "HTTPS_PROXY"),
            _proxy_url(environment, "HTTP_PROXY"),
            tuple(name for name in bypassed if name),
        )

    def proxy_for(self, scheme: str, host: str) -> str:
        """Return the URL of the proxy for a host; "" for none.

        Args:
            scheme: https or http.
            host: in lower case, without a port.
        """
        proxy = self.https if scheme == "https" else self.http
        return proxy if proxy and not self._is_bypassed(host) else ""

    def _is_bypassed(self, host: str) -> bool:
        try:
            address = ip_address(host)
        except ValueError:
            return host == "localhost" or any(_matches(name, host) for name in self.bypassed)
        return address.is_loopback or any(
            name == "*" or ((network := _parse_network(name)) and address in network)
            for name in self.bypassed
        )


def _matches(name: str, host: str) -> bool:
    """Return whether an entry of NO_PROXY matches a host; a name also matches its subdomains."""
    domain = name.removeprefix("*").lstrip(".")
    return name == "*" or host == domain or host.endswith(f".{domain}")


def _parse_network(name: str) -> IPv4Network | IPv6Network | None:
    """Parse an entry of NO_PROXY as a network; None for a name."""
    try:
        return ip_network(name, strict=False)
    except ValueError:
        return None


def _variable(environment: Mapping[str, str], name: str) -> str:
    return (environment.get(name.lower()) or environment.get(name) or "").strip()


def _proxy_url(environment: Mapping[str, str], name: str) -> str:
    """Return the URL in a variable; `host:port` is an http URL, as for curl."""
    text = _variable(environment, name)
    if not text:
        return ""
    url = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise SettingInvalidError(
            f"{name} is not a valid proxy URL",  # not quoted: it may contain a password
            "Use http://host:port.",
        )
    return url
