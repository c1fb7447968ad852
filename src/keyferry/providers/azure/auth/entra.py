"""Requests tokens from Entra for applications and managed identities with a credential.

Each token takes one POST; `entra_request` builds its form. A parse job reads the certificate of an
application and signs with it, so this process neither parses it nor imports the library.

Source: docs/reference/upstream-azure-provider.md#service-principal
Source: docs/reference/upstream-azure-provider.md#workload-identity
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never
from uuid import uuid4

from yarl import URL

from keyferry.aio.tenant import current_tenant
from keyferry.errors import IdentityError, SecretDataError
from keyferry.formats.certs.client_certificate import AssertionRequest
from keyferry.providers.azure.auth.access_token import AccessToken, parse_token
from keyferry.providers.azure.auth.entra_request import (
    Form,
    assertion_claims,
    assertion_form,
    is_adfs,
    secret_form,
    token_url,
)
from keyferry.providers.azure.auth.identity import (
    CertificatePrincipal,
    ServicePrincipal,
    WorkloadIdentity,
)
from keyferry.providers.key_jobs import CLIENT_ASSERTION

if TYPE_CHECKING:
    from keyferry.aio.clock import Clock
    from keyferry.aio.jobs import JobRunner
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
        jobs: signs assertions.
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
        jobs: JobRunner,
    ) -> None:
        self._http = http
        self._identity = identity
        self._adfs = is_adfs(tenant)
        self._url = token_url(cloud.authority, tenant)
        self._guarded = cloud.from_class
        self._resource = resource
        self._clock = clock
        self._jobs = jobs

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
                assertion = await self._sign_assertion(self._identity)
                return assertion_form(self._identity.client_id, assertion, resource=self._resource)
            case WorkloadIdentity(client_id, token):
                assertion = (federated_token or token).text
                return assertion_form(client_id, assertion, resource=self._resource)
            case _:
                assert_never(self._identity)

    async def _sign_assertion(self, identity: CertificatePrincipal) -> str:
        """Sign an assertion with the certificate of the nodePublishSecretRef Secret.

        Raises:
            IdentityError: it cannot be used; the message names the keys of the Secret.
        """
        claims = assertion_claims(
            identity.client_id,
            url=self._url,
            now=self._clock.wall().timestamp(),
            jwt_id=str(uuid4()),
        )
        password = identity.password.encode(errors="surrogatepass")
        request = AssertionRequest(identity.certificate, password, claims, legacy=self._adfs)
        try:
            return await self._jobs.run(CLIENT_ASSERTION, request, tenant=current_tenant())
        except SecretDataError as error:
            raise IdentityError(
                "clientcertificate in the nodePublishSecretRef Secret cannot be used: "
                f"{error.problem}",
                f"{error.remedy} Set the key clientcertificate to one PEM, as az ad sp "
                "create-for-rbac --create-cert writes it, or to PKCS#12 as base64 text, and "
                "clientcertificatepassword to the password of its private key.",
            ) from None
