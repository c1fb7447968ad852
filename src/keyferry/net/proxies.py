"""Which proxy a vault is reached through, as the environment says. [pure]

The variables mean what they mean to the Go originals: HTTPS_PROXY, HTTP_PROXY and NO_PROXY, in
lower case too, which counts first; a loopback address is never behind a proxy.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from keyferry.errors import PlatformError, Stage

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Proxies:
    """The proxies of one process.

    Attributes:
        https: the URL of the one for https URLs, user and password included; "" for none.
        http: of the one for http URLs.
        bypassed: hosts, domains and networks that are reached without; "*" is all.
    """

    https: str = field(default="", repr=False)
    http: str = field(default="", repr=False)
    bypassed: tuple[str, ...] = ()

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Proxies:
        """As the variables say.

        Raises:
            PlatformError: a variable holds no URL.
        """
        bypassed = (name.strip().lower() for name in _variable(environment, "NO_PROXY").split(","))
        return cls(
            _proxy_url(environment, "HTTPS_PROXY"),
            _proxy_url(environment, "HTTP_PROXY"),
            tuple(name for name in bypassed if name),
        )

    def proxy_for(self, scheme: str, host: str) -> str:
        """The URL of the proxy to a host; "" for none.

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
    """Whether an entry of NO_PROXY means a host: a name means what is below it, too."""
    domain = name.removeprefix("*").lstrip(".")
    return name == "*" or host == domain or host.endswith(f".{domain}")


def _parse_network(name: str) -> IPv4Network | IPv6Network | None:
    """The addresses that an entry of NO_PROXY means; None when it is a name."""
    try:
        return ip_network(name, strict=False)
    except ValueError:
        return None


def _variable(environment: Mapping[str, str], name: str) -> str:
    return (environment.get(name.lower()) or environment.get(name) or "").strip()


def _proxy_url(environment: Mapping[str, str], name: str) -> str:
    """The URL in a variable; a bare `host:port` is an http URL, as it is for curl."""
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
        raise PlatformError(
            f"{name} is not the URL of a proxy",  # which may hold a password
            "Write it as http://host:port.",
            stage=Stage.REQUEST,
        )
    return url
