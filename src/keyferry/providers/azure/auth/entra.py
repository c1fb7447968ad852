"""Requests tokens from Entra for applications and managed identities with a credential.

Each token takes one POST; `entra_request` builds its form. The certificate library is imported only
by the mode that needs it.

Source: docs/reference/upstream-azure-provider.md#service-principal
Source: docs/reference/upstream-azure-provider.md#workload-identity
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, assert_never
from uuid import uuid4

from yarl import URL

from keyferry.errors import IdentityError, SecretDataError
from keyferry.providers.azure.auth.access_token import AccessToken, parse_token
from keyferry.providers.azure.auth.entra_request import (
    Form,
    assertion_form,
    is_adfs,
    secret_form,
    signed_assertion,
    token_url,
)
from keyferry.providers.azure.auth.identity import (
    CertificatePrincipal,
    ServicePrincipal,
    WorkloadIdentity,
)

if TYPE_CHECKING:
    from keyferry.aio.clock import Clock
    from keyferry.formats.certs.client_certificate import ClientCertificate
    from keyferry.providers.azure.auth.identity import ServiceAccountToken
    from keyferry.providers.azure.auth.token_http import TokenHttpClient
    from keyferry.providers.azure.clouds import AzureCloud

EntraIdentity = ServicePrincipal | CertificatePrincipal | WorkloadIdentity


class EntraSource:
    """Requests the tokens of one application or managed identity.

    Args:
        http: sends the requests.
        identity: the identity with its credential.
        tenant: the tenant of the identity.
        cloud: the cloud whose token endpoint is used.
        resource: the resource that the tokens are for.
        clock: reads the time.
    """

    def __init__(
        self,
        http: TokenHttpClient,
        identity: EntraIdentity,
        *,
        tenant: str,
        cloud: AzureCloud,
        resource: str,
        clock: Clock,
    ) -> None:
        self._http = http
        self._identity = identity
        self._adfs = is_adfs(tenant)
        self._url = token_url(cloud.authority, tenant)
        self._guarded = cloud.from_class
        self._resource = resource
        self._clock = clock
        self._certificate: ClientCertificate | None = None

    async def request_token(
        self, federated_token: ServiceAccountToken | None, seconds: float
    ) -> AccessToken:
        """Implement `TokenSource`."""
        form = await self._build_form(federated_token)
        requested_at = self._clock.wall().timestamp()
        response = await self._http.post(URL(self._url), form, seconds, guarded=self._guarded)
        return parse_token(response, now=requested_at)

    async def _build_form(self, federated_token: ServiceAccountToken | None) -> Form:
        match self._identity:
            case ServicePrincipal(client_id, client_secret):
                return secret_form(client_id, client_secret, resource=self._resource)
            case CertificatePrincipal():
                # Importing the library, opening the key and signing would block the event loop.
                assertion = await asyncio.to_thread(self._sign_assertion, self._identity)
                return assertion_form(self._identity.client_id, assertion, resource=self._resource)
            case WorkloadIdentity(client_id, token):
                assertion = (federated_token or token).text
                return assertion_form(client_id, assertion, resource=self._resource)
            case _:
                assert_never(self._identity)

    def _sign_assertion(self, identity: CertificatePrincipal) -> str:
        if self._certificate is None:
            self._certificate = _read_certificate(identity)
        return signed_assertion(
            self._certificate,
            identity.client_id,
            url=self._url,
            adfs=self._adfs,
            now=self._clock.wall().timestamp(),
            jwt_id=str(uuid4()),
        )


def _read_certificate(identity: CertificatePrincipal) -> ClientCertificate:
    """Read the certificate of the nodePublishSecretRef Secret.

    Raises:
        IdentityError: it cannot be used; the message names the keys of the Secret.
    """
    from keyferry.formats.certs.client_certificate import read_client_certificate

    try:
        return read_client_certificate(identity.certificate, identity.password)
    except SecretDataError as error:
        raise IdentityError(
            f"clientcertificate in the nodePublishSecretRef Secret cannot be used: {error.problem}",
            f"{error.remedy} Set the key clientcertificate to one PEM, as az ad sp "
            "create-for-rbac --create-cert writes it, or to PKCS#12 as base64 text, and "
            "clientcertificatepassword to the password of its private key.",
        ) from None
