"""The data plane of one Key Vault, as one identity sees it.

Source: azure, sections 5.1 and 5.2. One GET per object; what the answers mean is decided in
`keyferry.azure.vault_refusals`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote

import msgspec
from yarl import URL

from keyferry.answers import Refusal
from keyferry.azure.excerpt import excerpt
from keyferry.azure.vault_refusals import Asked, refusal_error
from keyferry.errors import ObjectUnusableError, VaultError

if TYPE_CHECKING:
    from keyferry.azure.objects import ObjectRef
    from keyferry.https import HttpsClient

API_VERSION = "7.4"


class TokenSource(Protocol):
    """Gives the access tokens of one identity."""

    async def token(self) -> str:
        """A token that should be good."""

    def refused(self, token: str) -> None:
        """Hear that the vault did not accept `token`, so that the next one is new."""


@dataclass(frozen=True, slots=True)
class Secret:
    """One version of a secret.

    Attributes:
        value: as it is in the vault.
        version: its version id.
    """

    value: str = field(repr=False)
    version: str


class _SecretBundle(msgspec.Struct, rename="camel"):
    value: str | None = None
    id: str | None = None
    kid: str | None = None
    content_type: str | None = None


class KeyVault:
    """Reads the objects of one vault.

    Args:
        https: the connections.
        tokens: who reads.
        asked: vault, tenant and client, for messages.
        host: of the vault.
    """

    def __init__(self, https: HttpsClient, tokens: TokenSource, *, asked: Asked, host: str) -> None:
        self._https = https
        self._tokens = tokens
        self._asked = asked
        self._host = host

    async def secret(self, ref: ObjectRef) -> Secret:
        """Read one secret.

        Raises:
            IdentityError: there is no token to be had.
            AccessDeniedError: the vault refuses the token, or the identity.
            ObjectNotFoundError: no such secret or version, or it is disabled.
            ObjectUnusableError: it belongs to a certificate in a form that is not delivered yet.
            VaultError: the way to the vault or the vault itself fails.
        """
        path = f"/secrets/{quote(ref.name, safe='')}/{quote(ref.version, safe='')}"
        url = URL(f"https://{self._host}{path}?api-version={API_VERSION}", encoded=True)
        token = await self._tokens.token()
        answer = await self._get(url, token, ref)
        if isinstance(answer, Refusal) and answer.status == 401:
            self._tokens.refused(token)
            answer = await self._get(url, await self._tokens.token(), ref)
        if isinstance(answer, Refusal):
            raise refusal_error(answer, ref, self._asked)
        return _checked(answer)

    async def _get(self, url: URL, token: str, ref: ObjectRef) -> _SecretBundle | Refusal:
        return await self._https.get_json(
            url,
            headers={"Authorization": f"Bearer {token}"},
            document=_SecretBundle,
            purpose=f"read {ref} from vault {self._asked.vault}",
        )


def _checked(bundle: _SecretBundle) -> Secret:
    if bundle.value is None:
        raise VaultError("secret value is nil", "The vault's answer lacks it; try again.")
    version = (bundle.id or "").rstrip("/").rpartition("/")[2]
    if not version:
        raise VaultError("secret id is nil", "The vault's answer lacks it; try again.")
    if bundle.kid and bundle.content_type != "application/x-pem-file":
        raise _unusable_certificate(bundle.content_type or "")
    return Secret(bundle.value, version)


def _unusable_certificate(content_type: str) -> ObjectUnusableError:
    if content_type == "application/x-pkcs12":
        return ObjectUnusableError(
            "it belongs to a certificate kept as PKCS#12, which this version of Keyferry does not "
            "convert to PEM",
            "Import the certificate with content type application/x-pem-file.",
        )
    return ObjectUnusableError(
        f"failed to get certificate. unknown content type '{excerpt(content_type)}'",
        "A secret that belongs to a certificate has the content type application/x-pem-file.",
    )
