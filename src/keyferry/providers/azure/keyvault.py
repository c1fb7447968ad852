"""The client for the data plane of one Key Vault, as one identity.

Each object version takes one GET. `responses` validates the responses, and `keyvault_errors`
translates the errors.

Source: docs/reference/upstream-azure-provider.md#key-vault-requests
"""

from __future__ import annotations

from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar, assert_never
from urllib.parse import quote

from yarl import URL

from keyferry.errors import KeyferryError, VaultError
from keyferry.net.exchange import uncounted
from keyferry.net.http_client import JsonRequest
from keyferry.net.http_responses import ErrorResponse
from keyferry.providers.azure.keyvault_errors import RequestContext, error_for_response
from keyferry.providers.azure.objects import ALL_OBJECTS, ObjectRef, ObjectType
from keyferry.providers.azure.responses import (
    CertificateDocument,
    Content,
    KeyDocument,
    ListedObject,
    ListedVersion,
    PageDocument,
    SecretDocument,
)
from keyferry.providers.azure.versions import ObjectDisabledError, disabled_error

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from keyferry.net.http_client import HttpsClient
    from keyferry.providers.mount_limits import MountBudget
    from keyferry.resilience.call_context import CallContext
    from keyferry.resilience.transport import RetryingTransport

API_VERSION = "7.4"
MAX_PAGES = 400
"""The maximum number of pages of a list; at 25 entries a page, no real list is longer."""
LISTED_VERSION_BYTES = 1024
"""Roughly the memory of one version in a list."""

_IMPOSTOR_REMEDY = "Check that this host is a vault, and that no proxy responds in its place."

T = TypeVar("T")


class BearerTokenProvider(Protocol):
    """Provides the access tokens of one identity."""

    async def get_token(self) -> str:
        """Return a token that has not expired and that the vault has not rejected."""

    def invalidate(self, token: str, challenge: str) -> None:
        """Invalidate `token` after a 401.

        Args:
            token: the rejected token.
            challenge: the header `WWW-Authenticate` of the 401.
        """


class JsonTransport(Protocol):
    """Sends requests to a vault."""

    def send(self, request: JsonRequest[T], context: CallContext) -> Awaitable[T | ErrorResponse]:
        """Return the document, or the error response of the vault."""


class KeyVaultTransport:
    """Implements `JsonTransport` over HTTPS, with rate limit and retries.

    Args:
        https: provides the connections.
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
        IdentityError: the identity gets no token.
        AccessDeniedError: the vault rejects the token or the identity.
        ObjectNotFoundError: the object or version does not exist or is disabled.
        VaultError: the request or the vault fails, or the response is incomplete.

    Args:
        transport: sends the requests.
        tokens: provides the access tokens.
        context: facts for error messages.
        netloc: the host of the vault, with a port if it is not 443.
        budget: what the mount may receive; None to count nothing.

    Attributes:
        netloc: the host of the vault, with a port if it is not 443.
    """

    def __init__(
        self,
        transport: JsonTransport,
        tokens: BearerTokenProvider,
        *,
        context: RequestContext,
        netloc: str,
        budget: MountBudget | None = None,
    ) -> None:
        self._transport = transport
        self._receiving = uncounted if budget is None else budget.receiving
        self._tokens = tokens
        self._context = context
        self.netloc = netloc
        self._base = URL(f"https://{netloc}").origin()

    async def read(self, ref: ObjectRef, context: CallContext) -> Content:
        """Read one object."""
        try:
            return await self._read(ref, context)
        except ObjectDisabledError as error:
            if ref.version:
                raise
            raise await self._disabled_error(error, ref, context) from None

    async def _disabled_error(
        self, error: ObjectDisabledError, ref: ObjectRef, context: CallContext
    ) -> ObjectDisabledError:
        """Return the error for a current version that is disabled; other versions may help."""
        try:
            return disabled_error(error, await self.list_versions(ref, context))
        except KeyferryError:
            return disabled_error(error, None)

    async def _read(self, ref: ObjectRef, context: CallContext) -> Content:
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
        """List all versions of an object in the order of the vault; `ref.version` is ignored."""
        action = f"list the versions of {ref.type.value} {ref.name} in vault {self._context.vault}"
        versions: list[ListedVersion] = []
        with self._receiving() as count:
            async for page in self._pages(self._object_url(ref, "versions"), ref, action, context):
                listed = page.checked()
                count(LISTED_VERSION_BYTES * len(listed))
                versions += listed
        return tuple(versions)

    async def list_last_updated(
        self, type_: ObjectType, context: CallContext, *, max_pages: int
    ) -> dict[str, int] | None:
        """List the time of the last update of each enabled object of one type.

        Args:
            type_: the type of the objects.
            context: priority and deadline of the requests.
            max_pages: the maximum number of pages to read.

        Returns:
            Seconds since 1970 by object name in lower case; None if the list has more pages.
        """
        action = f"list the {_COLLECTIONS[type_]} of vault {self._context.vault}"
        url = self._url_of_path(f"/{_COLLECTIONS[type_]}")
        updated: dict[str, int] = {}
        pages = 0
        async with aclosing(
            self._pages(url, ObjectRef(type_, ALL_OBJECTS, ""), action, context)
        ) as documents:
            async for page in documents:
                updated |= page.last_updated()
                pages += 1
                if pages == max_pages and page.next_link:
                    return None
        return updated

    async def list_objects(
        self, type_: ObjectType, context: CallContext
    ) -> tuple[ListedObject, ...]:
        """List all objects of one type, without their values."""
        action = f"list the {_COLLECTIONS[type_]} of vault {self._context.vault}"
        url = self._url_of_path(f"/{_COLLECTIONS[type_]}")
        found: list[ListedObject] = []
        with self._receiving() as count:
            async for page in self._pages(url, ObjectRef(type_, ALL_OBJECTS, ""), action, context):
                listed = page.objects()
                count(LISTED_VERSION_BYTES * len(listed))
                found += listed
        return tuple(found)

    async def _pages(
        self, first_url: URL, ref: ObjectRef, action: str, context: CallContext
    ) -> AsyncGenerator[PageDocument, None]:
        url: URL | None = first_url
        seen: set[URL] = set()
        while url is not None:
            if url in seen or len(seen) == MAX_PAGES:
                raise VaultError(
                    f"failed to {action}: pagination did not terminate",
                    _IMPOSTOR_REMEDY,
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
        """Build the URL of a percent-encoded path."""
        # Much cheaper than to parse the whole URL.
        return URL.build(
            scheme="https",
            authority=self._base.raw_authority,
            path=path,
            query_string=f"api-version={API_VERSION}",
            encoded=True,
        )

    def _next_page_url(self, link: str | None, action: str) -> URL | None:
        """Return the URL of the next page, which must be on this vault: the token is sent there."""
        if not link:
            return None
        try:
            url = URL(link, encoded=True)
            # Vaults include the port, even 443; `URL` compares it as the default.
            if (url.scheme, url.host, url.port) == ("https", self._base.host, self._base.port):
                return url
        except ValueError:
            pass
        raise VaultError(
            f"failed to {action}: the next page is on another host",
            _IMPOSTOR_REMEDY,
        )

    async def _get(
        self, url: URL, document: type[T], ref: ObjectRef, action: str, context: CallContext
    ) -> T:
        with self._receiving() as count:
            response = await self._send(url, document, action, count, context)
        if isinstance(response, ErrorResponse):
            raise error_for_response(response, ref, self._context)
        return response

    async def _send(
        self,
        url: URL,
        document: type[T],
        action: str,
        count: Callable[[int], None],
        context: CallContext,
    ) -> T | ErrorResponse:
        token = await self._tokens.get_token()
        request = _request(url, token, document, action, count)
        response = await self._transport.send(request, context)
        if isinstance(response, ErrorResponse) and response.status == 401:
            # Once: the token may have been revoked, or the vault may name another tenant.
            self._tokens.invalidate(token, response.challenge)
            token = await self._tokens.get_token()
            request = _request(url, token, document, action, count)
            response = await self._transport.send(request, context)
        return response


def _request(
    url: URL, token: str, document: type[T], action: str, count: Callable[[int], None]
) -> JsonRequest[T]:
    return JsonRequest(url, {"Authorization": f"Bearer {token}"}, document, action, count)


_COLLECTIONS = {
    ObjectType.SECRET: "secrets",
    ObjectType.KEY: "keys",
    ObjectType.CERT: "certificates",
}
