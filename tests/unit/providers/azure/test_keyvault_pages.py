"""keyferry.providers.azure.keyvault: lists that lead astray."""

from __future__ import annotations

from typing import TypeVar

import msgspec
import pytest

from keyferry.errors import VaultError
from keyferry.net.http_client import JsonRequest
from keyferry.providers.azure.auth.identity import VmManagedIdentity
from keyferry.providers.azure.keyvault import MAX_PAGES, KeyVault
from keyferry.providers.azure.keyvault_errors import RequestContext
from keyferry.providers.azure.objects import ObjectRef, ObjectType
from keyferry.resilience.call_context import CallContext

T = TypeVar("T")
REF = ObjectRef(ObjectType.SECRET, "x", "")


class Pages:
    """Implements `JsonTransport`: returns pages whose next link is `link` with the page number."""

    def __init__(self, link: str) -> None:
        self._link = link
        self.asked: list[str] = []

    async def send(self, request: JsonRequest[T], context: CallContext) -> T:
        """Return the next page."""
        self.asked.append(str(request.url))
        link = self._link.replace("%d", str(len(self.asked)))
        return msgspec.json.decode(msgspec.json.encode({"nextLink": link}), type=request.document)


class Token:
    """Any token."""

    async def get_token(self) -> str:
        return "t"

    def invalidate(self, token: str, challenge: str) -> None:
        raise AssertionError(token)


def vault(pages: Pages) -> KeyVault:
    asked = RequestContext("shop", "t", "https://login.microsoftonline.com", VmManagedIdentity(""))
    return KeyVault(pages, Token(), context=asked, netloc="shop.vault.azure.net")


@pytest.mark.parametrize(
    "link",
    [
        "https://evil.example.com/secrets/x/versions",
        "http://shop.vault.azure.net/secrets/x/versions",
        "https://shop.vault.azure.net:444/secrets/x/versions",
        "https://shop.vault.azure.net.evil.example.com/",
        "/secrets/x/versions?page=2",
        "https://[",
    ],
)
async def test_page_on_another_host_is_not_requested(link: str) -> None:
    """The token of the vault must not be sent there."""
    pages = Pages(link)
    with pytest.raises(VaultError, match="the next page is on another host"):
        await vault(pages).list_versions(REF, CallContext.new("vault.test"))
    assert 1 == len(pages.asked)


async def test_explicit_default_port_is_accepted() -> None:
    """Azure includes it."""
    pages = Pages("https://shop.vault.azure.net:443/secrets/x/versions?page=2")
    with pytest.raises(VaultError, match="pagination did not terminate"):
        await vault(pages).list_versions(REF, CallContext.new("vault.test"))
    assert 2 == len(pages.asked)


async def test_repeated_page_ends_the_pagination() -> None:
    """A page is requested at most once."""
    pages = Pages("https://shop.vault.azure.net/secrets/x/versions?page=2")
    with pytest.raises(VaultError, match="pagination did not terminate"):
        await vault(pages).list_versions(REF, CallContext.new("vault.test"))
    assert 2 == len(pages.asked)


async def test_number_of_pages_is_limited() -> None:
    """Even if each page is new."""
    pages = Pages("https://shop.vault.azure.net/secrets/x/versions?page=%d")
    with pytest.raises(VaultError, match="pagination did not terminate"):
        await vault(pages).list_versions(REF, CallContext.new("vault.test"))
    assert MAX_PAGES == len(pages.asked)
