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
async def test_a_page_of_another_host_is_not_asked_for(link: str) -> None:
    """The token of the vault must not go there."""
    pages = Pages(link)
    with pytest.raises(VaultError, match="the next page is on another host"):
        await vault(pages).list_versions(REF, CallContext.new("vault.test"))
    assert 1 == len(pages.asked)


async def test_the_usual_port_may_be_written_out() -> None:
    """As Azure does."""
    pages = Pages("https://shop.vault.azure.net:443/secrets/x/versions?page=2")
    with pytest.raises(VaultError, match="pagination did not terminate"):
        await vault(pages).list_versions(REF, CallContext.new("vault.test"))
    assert 2 == len(pages.asked)


async def test_pages_that_repeat_come_to_an_end() -> None:
    """The second time the same page is asked for is the last."""
    pages = Pages("https://shop.vault.azure.net/secrets/x/versions?page=2")
    with pytest.raises(VaultError, match="pagination did not terminate"):
        await vault(pages).list_versions(REF, CallContext.new("vault.test"))
    assert 2 == len(pages.asked)


async def test_pages_without_end_come_to_an_end() -> None:
    """However new each one looks."""
    pages = Pages("https://shop.vault.azure.net/secrets/x/versions?page=%d")
    with pytest.raises(VaultError, match="pagination did not terminate"):
        await vault(pages).list_versions(REF, CallContext.new("vault.test"))
    assert MAX_PAGES == len(pages.asked)
