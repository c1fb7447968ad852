"""Proxies: the variables of the environment as Go, curl and the originals read them."""

from __future__ import annotations

import pytest

from keyferry.errors import PlatformError
from keyferry.net.proxies import Proxies

PROXY = "http://proxy.example:3128"
CANARY = "canary-77aa"


def test_the_scheme_of_the_url_chooses_the_variable() -> None:
    """Each has one of its own."""
    proxies = Proxies.from_environment({"HTTPS_PROXY": PROXY, "HTTP_PROXY": "http://other:1"})
    found = (
        proxies.proxy_for("https", "a.vault.azure.net"),
        proxies.proxy_for("http", "a.vault.azure.net"),
    )
    assert (PROXY, "http://other:1") == found


def test_nothing_set_is_no_proxy() -> None:
    """Nor is an empty variable."""
    proxies = Proxies.from_environment({"HTTPS_PROXY": " "})
    assert "" == proxies.proxy_for("https", "a.vault.azure.net")


def test_lower_case_counts_first() -> None:
    """As everywhere."""
    environment = {"https_proxy": PROXY, "HTTPS_PROXY": "http://other:1"}
    assert PROXY == Proxies.from_environment(environment).proxy_for("https", "a")


def test_a_bare_host_is_an_http_proxy() -> None:
    """People write host:port."""
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
def test_no_proxy_means_names_domains_and_networks(without: str, host: str, bypassed: bool) -> None:
    """What is below a name too; loopback always."""
    proxies = Proxies.from_environment({"HTTPS_PROXY": PROXY, "NO_PROXY": without})
    assert ("" if bypassed else PROXY) == proxies.proxy_for("https", host)


@pytest.mark.parametrize(
    "text", [f"ftp://user:{CANARY}@host", f"http://user:{CANARY}@", f"http://:{CANARY}@host:x"]
)
def test_what_is_no_url_of_a_proxy_is_refused(text: str) -> None:
    """Naming the variable, and nothing of what it holds."""
    with pytest.raises(PlatformError) as caught:
        Proxies.from_environment({"HTTP_PROXY": text})
    assert "HTTP_PROXY is not a valid proxy URL" == caught.value.problem
    assert CANARY not in str(caught.value)


def test_a_password_is_not_shown() -> None:
    """Settings are printed by who debugs."""
    proxies = Proxies.from_environment({"HTTPS_PROXY": f"http://user:{CANARY}@host:1"})
    assert CANARY not in repr(proxies)
