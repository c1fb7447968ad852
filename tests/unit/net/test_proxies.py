"""Proxy variables are read like Go programs and curl do."""

from __future__ import annotations

import pytest

from keyferry.errors import PlatformError
from keyferry.net.proxies import Proxies

PROXY = "http://proxy.example:3128"
CANARY = "canary-77aa"


def test_scheme_of_the_url_selects_the_variable() -> None:
    """HTTPS_PROXY for https, HTTP_PROXY for http."""
    proxies = Proxies.from_environment({"HTTPS_PROXY": PROXY, "HTTP_PROXY": "http://other:1"})
    found = (
        proxies.proxy_for("https", "a.vault.azure.net"),
        proxies.proxy_for("http", "a.vault.azure.net"),
    )
    assert (PROXY, "http://other:1") == found


def test_no_variable_means_no_proxy() -> None:
    """An empty variable means no proxy, too."""
    proxies = Proxies.from_environment({"HTTPS_PROXY": " "})
    assert "" == proxies.proxy_for("https", "a.vault.azure.net")


def test_lower_case_variable_takes_precedence() -> None:
    """Like in curl and Go."""
    environment = {"https_proxy": PROXY, "HTTPS_PROXY": "http://other:1"}
    assert PROXY == Proxies.from_environment(environment).proxy_for("https", "a")


def test_host_and_port_without_scheme_is_an_http_proxy() -> None:
    """`host:port` is a common notation."""
    proxies = Proxies.from_environment({"HTTPS_PROXY": "proxy.example:3128"})
    assert PROXY == proxies.proxy_for("https", "a")


@pytest.mark.parametrize(
    ("without", "host", "bypassed"),
    [
        ("vault.azure.net", "contoso.vault.azure.net", True),
        (".vault.azure.net", "contoso.vault.azure.net", True),
        ("*.vault.azure.net", "contoso.vault.azure.net", True),
        ("other, CONTOSO.vault.azure.net ,", "contoso.vault.azure.net", True),
        ("azure.net", "notazure.net", False),
        ("contoso", "contoso.vault.azure.net", False),
        ("*", "contoso.vault.azure.net", True),
        ("*", "10.1.2.3", True),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("fd00::/8", "fd00::1", True),
        ("10.0.0.0/8", "fd00::1", False),
        ("", "localhost", True),
        ("", "127.0.0.1", True),
        ("", "::1", True),
        ("", "contoso.vault.azure.net", False),
    ],
)
def test_no_proxy_matches_names_domains_and_networks(
    without: str, host: str, bypassed: bool
) -> None:
    """A name also matches its subdomains; loopback never uses a proxy."""
    proxies = Proxies.from_environment({"HTTPS_PROXY": PROXY, "NO_PROXY": without})
    assert ("" if bypassed else PROXY) == proxies.proxy_for("https", host)


@pytest.mark.parametrize(
    "text", [f"ftp://user:{CANARY}@host", f"http://user:{CANARY}@", f"http://:{CANARY}@host:x"]
)
def test_invalid_proxy_url_is_rejected_without_quoting_it(text: str) -> None:
    """The error names only the variable."""
    with pytest.raises(PlatformError) as caught:
        Proxies.from_environment({"HTTP_PROXY": text})
    assert "HTTP_PROXY is not a valid proxy URL" == caught.value.problem
    assert CANARY not in str(caught.value)


def test_repr_hides_the_proxy_password() -> None:
    """Settings may be printed while debugging."""
    proxies = Proxies.from_environment({"HTTPS_PROXY": f"http://user:{CANARY}@host:1"})
    assert CANARY not in repr(proxies)
