"""The data plane of one Key Vault, as one identity sees it.

Source: azure, sections 5.1 and 5.2. One GET per object and version; what the answers mean is
decided in `keyferry.azure.contents` and `keyferry.azure.vault_refusals`.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Protocol, TypeVar, assert_never
from urllib.parse import quote

from yarl import URL

from keyferry.answers import Refusal
from keyferry.azure.contents import (
    CertificateDocument,
    Content,
    KeyDocument,
    ListedVersion,
    SecretDocument,
    VersionsDocument,
)
from keyferry.azure.objects import ObjectRef, ObjectType
from keyferry.azure.vault_refusals import Asked, refusal_error
from keyferry.errors import VaultError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from keyferry.economy.errand import Errand
    from keyferry.https import HttpsClient
    from keyferry.retry import TryFailed

API_VERSION = "7.4"
MAX_PAGES = 400
"""So many pages of versions are read; at 25 a page, no vault that answers sensibly has more."""

T = TypeVar("T")


class TokenSource(Protocol):
    """Gives the access tokens of one identity."""

    async def token(self) -> str:
        """A token that should be good."""

    def refused(self, token: str, challenge: str) -> None:
        """Hear that the vault did not accept `token`, so that the next one is better.

        Args:
            token: the refused one.
            challenge: what the vault said about the tokens that it accepts.
        """


class KeyVault:
    """Reads the objects of one vault.

    Every method raises the same errors:
        IdentityError: there is no token to be had.
        AccessDeniedError: the vault refuses the token, or the identity.
        ObjectNotFoundError: no such object or version, or it is disabled.
        VaultError: the way to the vault or the vault itself fails, or its answer lacks something.

    Args:
        https: the connections.
        tokens: who reads.
        asked: vault, tenant and client, for messages.
        netloc: its host, with a port where it has an unusual one.

    Attributes:
        netloc: the same.
    """

    def __init__(
        self, https: HttpsClient, tokens: TokenSource, *, asked: Asked, netloc: str
    ) -> None:
        self._https = https
        self._tokens = tokens
        self._asked = asked
        self.netloc = netloc
        self._base = URL(f"https://{netloc}").origin()

    async def read(self, ref: ObjectRef, errand: Errand) -> Content:
        """Read one object."""
        url = self._url(ref, quote(ref.version, safe=""))
        purpose = f"read {ref} from vault {self._asked.vault}"
        match ref.type:
            case ObjectType.SECRET:
                return (await self._get(url, SecretDocument, ref, purpose, errand)).checked()
            case ObjectType.KEY:
                return (await self._get(url, KeyDocument, ref, purpose, errand)).checked()
            case ObjectType.CERT:
                return (await self._get(url, CertificateDocument, ref, purpose, errand)).checked()
            case _:
                assert_never(ref.type)

    async def versions(self, ref: ObjectRef, errand: Errand) -> tuple[ListedVersion, ...]:
        """All versions of an object, whatever `ref.version` says, in the order of the vault."""
        purpose = f"list the versions of {ref.type.value} {ref.name} in vault {self._asked.vault}"
        found: list[ListedVersion] = []
        async for page in self._pages(self._url(ref, "versions"), ref, purpose, errand):
            found += page.checked()
        return tuple(found)

    async def changes(
        self, type_: ObjectType, errand: Errand, *, pages: int
    ) -> dict[str, int] | None:
        """When each object of a collection was changed last, by name in lower case.

        Args:
            type_: of the objects.
            errand: the way to the vault.
            pages: at most so many are read; None is returned when there are more.
        """
        purpose = f"list the {_COLLECTIONS[type_]} of vault {self._asked.vault}"
        url = self._at(f"/{_COLLECTIONS[type_]}")
        found: dict[str, int] = {}
        read = 0
        async with aclosing(
            self._pages(url, ObjectRef(type_, "*", ""), purpose, errand)
        ) as documents:
            async for page in documents:
                found |= page.changes()
                read += 1
                if read == pages and page.next_link:
                    return None
        return found

    async def _pages(
        self, first: URL, ref: ObjectRef, purpose: str, errand: Errand
    ) -> AsyncGenerator[VersionsDocument, None]:
        url: URL | None = first
        seen: set[URL] = set()
        while url is not None:
            if url in seen or len(seen) == MAX_PAGES:
                raise VaultError(
                    f"failed to {purpose}: its pages do not end",
                    "Check that this host is a vault and that no proxy answers instead.",
                )
            seen.add(url)
            document = await self._get(url, VersionsDocument, ref, purpose, errand)
            yield document
            url = self._next(document.next_link, purpose)

    def _url(self, ref: ObjectRef, last: str) -> URL:
        return self._at(f"/{_COLLECTIONS[ref.type]}/{quote(ref.name, safe='')}/{last}")

    def _at(self, path: str) -> URL:
        """The URL of an encoded path."""
        # Put together of its parts, it need not be taken apart again.
        return URL.build(
            scheme="https",
            authority=self._base.raw_authority,
            path=path,
            query_string=f"api-version={API_VERSION}",
            encoded=True,
        )

    def _next(self, link: str | None, purpose: str) -> URL | None:
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
            f"failed to {purpose}: its next page is on another host",
            "Check that this host is a vault and that no proxy answers instead.",
        )

    async def _get(
        self, url: URL, document: type[T], ref: ObjectRef, purpose: str, errand: Errand
    ) -> T:
        token = await self._tokens.token()
        answer: T | Refusal = await errand.run(self._attempt(url, token, document, purpose))
        if isinstance(answer, Refusal) and answer.status == 401:
            self._tokens.refused(token, answer.challenge)
            token = await self._tokens.token()
            answer = await errand.run(self._attempt(url, token, document, purpose))
        if isinstance(answer, Refusal):
            raise refusal_error(answer, ref, self._asked)
        return answer

    def _attempt(
        self, url: URL, token: str, document: type[T], purpose: str
    ) -> Callable[[float], Awaitable[T | Refusal | TryFailed]]:
        async def attempt(seconds: float) -> T | Refusal | TryFailed:
            return await self._https.get_json(
                url,
                headers={"Authorization": f"Bearer {token}"},
                document=document,
                purpose=purpose,
                seconds=seconds,
            )

        return attempt


_COLLECTIONS = {
    ObjectType.SECRET: "secrets",
    ObjectType.KEY: "keys",
    ObjectType.CERT: "certificates",
}
