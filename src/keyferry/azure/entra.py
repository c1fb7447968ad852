"""Tokens from Entra, through azure-identity over our own connections.

The library is imported when the first token is asked for, on a thread, because it is large. Its own
retries are off, because ours are around it, and its cache is never reached, because ours is.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, assert_never

from keyferry.azure.modes import CertificatePrincipal, ServicePrincipal, WorkloadIdentity
from keyferry.azure.token_errors import causes
from keyferry.azure.token_source import AccessToken, TokenAnswer, TokenRefusedError
from keyferry.errors import IdentityError

if TYPE_CHECKING:
    from azure.core.credentials_async import AsyncTokenCredential
    from azure.core.pipeline.transport import AioHttpTransport

    from keyferry.azure.service_account import ServiceAccountToken
    from keyferry.https import HttpsClient

EntraIdentity = ServicePrincipal | CertificatePrincipal | WorkloadIdentity


class EntraSource:
    """The tokens of one application or managed identity that proves itself to Entra.

    Args:
        https: the connections.
        identity: who, and by what.
        tenant: of the identity.
        authority: the https URL of Entra in its cloud.
        resource: what the tokens are for.
    """

    def __init__(
        self,
        https: HttpsClient,
        identity: EntraIdentity,
        *,
        tenant: str,
        authority: str,
        resource: str,
    ) -> None:
        self._https = https
        self._identity = identity
        self._tenant = tenant
        self._authority = authority
        self._scope = f"{resource}/.default"
        self._assertion = ""
        self._credential: AsyncTokenCredential | None = None

    async def token(self, proof: ServiceAccountToken | None, seconds: float) -> AccessToken:
        """Ask once; see `TokenSource`."""
        if self._credential is None:
            await asyncio.to_thread(_load_library)
            self._credential = self._new_credential()
        self._assertion = proof.text if proof else ""
        try:
            async with asyncio.timeout(seconds):
                token = await self._credential.get_token(self._scope)
        except Exception as error:  # strange answers make the library raise anything
            answer = _answer(error)
            if answer is None:
                raise
            # Not chained: the library's texts quote the answers of the endpoint.
            raise TokenRefusedError(answer) from None
        return AccessToken(token.token, token.expires_on)

    def _new_credential(self) -> AsyncTokenCredential:
        from azure.identity import aio

        transport = self._transport()
        authority = self._authority
        match self._identity:
            case ServicePrincipal(client_id, client_secret):
                return aio.ClientSecretCredential(
                    self._tenant,
                    client_id,
                    client_secret,
                    authority=authority,
                    transport=transport,
                    retry_total=0,
                )
            case CertificatePrincipal():
                return self._certificate_credential(self._identity, transport)
            case WorkloadIdentity(client_id):
                return aio.ClientAssertionCredential(
                    self._tenant,
                    client_id,
                    lambda: self._assertion,
                    authority=authority,
                    transport=transport,
                    retry_total=0,
                )
            case _:
                assert_never(self._identity)

    def _certificate_credential(
        self, identity: CertificatePrincipal, transport: AioHttpTransport
    ) -> AsyncTokenCredential:
        from azure.identity import aio

        try:
            return aio.CertificateCredential(
                self._tenant,
                identity.client_id,
                certificate_data=identity.certificate,
                password=identity.password or None,
                authority=self._authority,
                transport=transport,
                retry_total=0,
            )
        except Exception:  # noqa: BLE001 - parsers of certificates raise anything
            # Not chained: the texts of parsers may quote what they parse.
            raise IdentityError(
                "clientcertificate is not a certificate with its RSA private key, or "
                "clientcertificatepassword does not open it",
                "Put both into one PEM, as az ad sp create-for-rbac --create-cert writes it, or "
                "into PKCS#12 as base64 text.",
            ) from None

    def _transport(self) -> AioHttpTransport:
        from azure.core.pipeline.transport import AioHttpTransport

        settings = self._https.settings
        return AioHttpTransport(
            session=self._https.session(),
            session_owner=False,
            connection_timeout=settings.connect_timeout,
            read_timeout=settings.try_timeout,
        )


def _load_library() -> None:
    """Import azure-identity and silence it: its log records quote the answers of endpoints."""
    import azure.core.pipeline.transport
    import azure.identity.aio  # noqa: F401 - for its side effect of being loaded

    logging.getLogger("azure").setLevel(logging.CRITICAL)
    logging.getLogger("msal").setLevel(logging.CRITICAL)


def _answer(error: Exception) -> TokenAnswer | None:
    """The answer of the token endpoint, where one lies along the chain of causes."""
    from azure.core.exceptions import HttpResponseError
    from azure.core.rest import AsyncHttpResponse

    for cause in causes(error):
        response = cause.response if isinstance(cause, HttpResponseError) else None
        if isinstance(response, AsyncHttpResponse):
            return TokenAnswer(response.status_code, response.headers, response.content)
    return None
