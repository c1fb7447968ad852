"""keyferry.resilience.call_context: endpoints are equal however an address is spelled."""

from __future__ import annotations

import pytest

from keyferry.resilience.call_context import endpoint_of


@pytest.mark.parametrize(
    ("url", "authority", "host"),
    [
        ("contoso.vault.azure.net", "contoso.vault.azure.net:443", "contoso.vault.azure.net"),
        ("Contoso.Vault.Azure.Net:443", "contoso.vault.azure.net:443", "contoso.vault.azure.net"),
        ("https://vault.", "vault:443", "vault"),
        ("https://vault:8200/", "vault:8200", "vault:8200"),
        ("https://user@vault:8200/v1?x#y", "vault:8200", "vault:8200"),
        ("http://vault", "vault:80", "vault:80"),
        ("https://[::1]", "[::1]:443", "[::1]"),
        ("https://[::1]:8200", "[::1]:8200", "[::1]:8200"),
        ("unix:/run/a.sock", "unix:/run/a.sock", "unix:/run/a.sock"),
        ("https://login.microsoftonline.com:444/", "login.microsoftonline.com:444", None),
        ("https://vault:port", "https://vault:port", None),
    ],
)
def test_authority_is_normalized_and_has_a_port(url: str, authority: str, host: str | None) -> None:
    endpoint = endpoint_of(url)
    assert authority == endpoint.authority
    assert (host or authority) == endpoint.host


def test_spellings_of_one_address_are_one_endpoint() -> None:
    spellings = ("https://vault", "https://VAULT:443/", "vault", "https://vault.")
    assert 1 == len({endpoint_of(spelling, "tls") for spelling in spellings})


def test_connection_differs_by_everything_that_a_class_can_vary() -> None:
    """Scheme, path and further settings; the authority does not."""
    variants = [
        endpoint_of("https://vault:8200"),
        endpoint_of("http://vault:8200"),
        endpoint_of("https://vault:8200/prefix"),
        endpoint_of("https://vault:8200", "namespace"),
    ]
    assert 4 == len({endpoint.connection for endpoint in variants})
    assert {"vault:8200"} == {endpoint.authority for endpoint in variants}
