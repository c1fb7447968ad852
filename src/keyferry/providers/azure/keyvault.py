"""The data plane of one Key Vault, as one identity sees it.

One GET per object and version; what the answers mean is decided in
`keyferry.providers.azure.responses` and `keyferry.providers.azure.keyvault_errors`.

Source: docs/reference/upstream-azure-provider.md#key-vault-requests
"""

from __future__ import annotations

from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar, assert_never
from urllib.parse import quote

from yarl import URL

from keyferry.errors import VaultError
from keyferry.net.http_client import JsonRequest
from keyferry.net.http_responses import ErrorResponse
from keyferry.providers.azure.keyvault_errors import RequestContext, error_for_response
from keyferry.providers.azure.objects import ObjectRef, ObjectType
from keyferry.providers.azure.responses import (
    CertificateDocument,
    Content,
    KeyDocument,
    ListedVersion,
    PageDocument,
    SecretDocument,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable

    from keyferry.net.http_client import HttpsClient
    from keyferry.resilience.call_context import CallContext
    from keyferry.resilience.transport import RetryingTransport

API_VERSION = "7.4"
MAX_PAGES = 400
"""So many pages of versions are read; at 25 a page, no vault that answers sensibly has more."""

T = TypeVar("T")


class BearerTokenProvider(Protocol):
    """Gives the access tokens of one identity."""

    async def get_token(self) -> str:
        """A token that should be good."""

    def invalidate(self, token: str, challenge: str) -> None:
        """Hear that the vault did not accept `token`, so that the next one is better.

        Args:
            token: the refused one.
            challenge: what the vault said about the tokens that it accepts.
        """


class JsonTransport(Protocol):
    """Sends requests to a vault."""

    def send(self, request: JsonRequest[T], context: CallContext) -> Awaitable[T | ErrorResponse]:
        """Return the document, or the error response of the vault."""


class KeyVaultTransport:
    """Implements `JsonTransport` over HTTPS, with rate limit and retries.

    Args:
        https: the connections.
        transport: waits for permits and retries.
    """

    def __init__(self, https: HttpsClient, transport: RetryingTransport) -> None:
        self._https = https
        self._transport = transport

    def send(self, request: JsonRequest[T], context: CallContext) -> Awaitable[T | ErrorResponse]:
        """Return the document, or the error response of the vault."""
        return self._transport.send(partial(self._https.get_json, request), context)


class KeyVault:
    """Reads the objects of one vault.

    Every method raises the same errors:
        IdentityError: there is no token to be had.
        AccessDeniedError: the vault refuses the token, or the identity.
        ObjectNotFoundError: no such object or version, or it is disabled.
        VaultError: the way to the vault or the vault itself fails, or its answer lacks something.

    Args:
        transport: sends the requests.
        tokens: who reads.
        context: vault, tenant and client, for messages.
        netloc: its host, with a port where it has an unusual one.

    Attributes:
        netloc: the same.
    """

    def __init__(
        self,
        transport: JsonTransport,
        tokens: BearerTokenProvider,
        *,
        context: RequestContext,
        netloc: str,
    ) -> None:
        self._transport = transport
        self._tokens = tokens
        self._context = context
        self.netloc = netloc
        self._base = URL(f"https://{netloc}").origin()

    async def read(self, ref: ObjectRef, context: CallContext) -> Content:
        """Read one object."""
        url = self._object_url(ref, quote(ref.version, safe=""))
        action = f"read {ref} from vault {self._context.vault}"
        match ref.type:
            case ObjectType.SECRET:
                return (await self._get(url, SecretDocument, ref, action, context)).checked()
            case ObjectType.KEY:
                return (await self._get(url, KeyDocument, ref, action, context)).checked()
            case ObjectType.CERT:
                return (await self._get(url, CertificateDocument, ref, action, context)).checked()
            case _:
                assert_never(ref.type)

    async def list_versions(
        self, ref: ObjectRef, context: CallContext
    ) -> tuple[ListedVersion, ...]:
        """All versions of an object, whatever `ref.version` says, in the order of the vault."""
        action = f"list the versions of {ref.type.value} {ref.name} in vault {self._context.vault}"
        found: list[ListedVersion] = []
        async for page in self._pages(self._object_url(ref, "versions"), ref, action, context):
            found += page.checked()
        return tuple(found)

    async def list_last_updated(
        self, type_: ObjectType, context: CallContext, *, max_pages: int
    ) -> dict[str, int] | None:
        """When each object of a collection was changed last, by name in lower case.

        Args:
            type_: of the objects.
            context: of the call.
            max_pages: at most so many are read; None is returned when there are more.
        """
        action = f"list the {_COLLECTIONS[type_]} of vault {self._context.vault}"
        url = self._url_of_path(f"/{_COLLECTIONS[type_]}")
        found: dict[str, int] = {}
        read = 0
        async with aclosing(
            self._pages(url, ObjectRef(type_, "*", ""), action, context)
        ) as documents:
            async for page in documents:
                found |= page.last_updated()
                read += 1
                if read == max_pages and page.next_link:
                    return None
        return found

    async def _pages(
        self, first_url: URL, ref: ObjectRef, action: str, context: CallContext
    ) -> AsyncGenerator[PageDocument, None]:
        url: URL | None = first_url
        seen: set[URL] = set()
        while url is not None:
            if url in seen or len(seen) == MAX_PAGES:
                raise VaultError(
                    f"failed to {action}: its pages do not end",
                    "Check that this host is a vault and that no proxy answers instead.",
                )
            seen.add(url)
            document = await self._get(url, PageDocument, ref, action, context)
            yield document
            url = self._next_page_url(document.next_link, action)

    def _object_url(self, ref: ObjectRef, last_segment: str) -> URL:
        return self._url_of_path(
            f"/{_COLLECTIONS[ref.type]}/{quote(ref.name, safe='')}/{last_segment}"
        )

    def _url_of_path(self, path: str) -> URL:
        """The URL of an encoded path."""
        # Put together of its parts, it need not be taken apart again.
        return URL.build(
            scheme="https",
            authority=self._base.raw_authority,
            path=path,
            query_string=f"api-version={API_VERSION}",
            encoded=True,
        )

    def _next_page_url(self, link: str | None, action: str) -> URL | None:
        """The next page; it must be of the same vault, because the token goes there."""
        if not link:
            return None
        try:
            url = URL(link, encoded=True)
            # Vaults write the port out, 443 too.
            if (url.scheme, url.host, url.port) == ("https", self._base.host, self._base.port):
                return url
        except ValueError:
            pass
        raise VaultError(
            f"failed to {action}: its next page is on another host",
            "Check that this host is a vault and that no proxy answers instead.",
        )

    async def _get(
        self, url: URL, document: type[T], ref: ObjectRef, action: str, context: CallContext
    ) -> T:
        token = await self._tokens.get_token()
        answer = await self._transport.send(_request(url, token, document, action), context)
        if isinstance(answer, ErrorResponse) and answer.status == 401:
            self._tokens.invalidate(token, answer.challenge)
            token = await self._tokens.get_token()
            answer = await self._transport.send(_request(url, token, document, action), context)
        if isinstance(answer, ErrorResponse):
            raise error_for_response(answer, ref, self._context)
        return answer


def _request(url: URL, token: str, document: type[T], action: str) -> JsonRequest[T]:
    return JsonRequest(url, {"Authorization": f"Bearer {token}"}, document, action)


_COLLECTIONS = {
    ObjectType.SECRET: "secrets",
    ObjectType.KEY: "keys",
    ObjectType.CERT: "certificates",
}
