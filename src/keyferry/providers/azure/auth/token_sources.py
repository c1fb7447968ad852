"""Creates the token source of each identity mode: the second place that a new mode touches."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never
from urllib.parse import urlsplit

from msgspec import Struct

from keyferry.aio.clock import SystemClock
from keyferry.aio.jobs import ThreadJobRunner
from keyferry.errors import IdentityError
from keyferry.providers.azure.auth.aks_token_proxy import (
    BindingSource,
    TokenProxy,
    TokenProxyEndpoint,
    check_proxy_url,
)
from keyferry.providers.azure.auth.entra import EntraSource
from keyferry.providers.azure.auth.identity import (
    ArcIdentity,
    CertificatePrincipal,
    Identity,
    IdentityBinding,
    PodIdentity,
    ServicePrincipal,
    TokenService,
    VmManagedIdentity,
    WorkloadIdentity,
    profile,
)
from keyferry.providers.azure.auth.machine import (
    ArcAgent,
    ArcSource,
    AzurePrivileges,
    ImdsSource,
    NmiSource,
)
from keyferry.providers.azure.auth.token_http import TokenHttpClient
from keyferry.resilience.call_context import endpoint_of

if TYPE_CHECKING:
    from keyferry.aio.clock import Clock
    from keyferry.aio.jobs import JobRunner
    from keyferry.net.http_client import HttpsClient
    from keyferry.providers.azure.auth.access_token import TokenSource
    from keyferry.providers.azure.clouds import AzureCloud
    from keyferry.providers.emulator import Emulator, EmulatorCommands
    from keyferry.providers.privileges import Privileges
    from keyferry.providers.settings import ProviderSettings
    from keyferry.resilience.call_context import Endpoint


class AccessTokenRequest(Struct, frozen=True):
    """A request for an access token.

    Attributes:
        identity: the identity that the token is for.
        tenant: the tenant that issues it.
        cloud: the cloud whose token endpoint issues it.
        resource: the resource that it grants access to; "" means the vaults of the cloud.
    """

    identity: Identity
    tenant: str
    cloud: AzureCloud
    resource: str = ""

    @property
    def effective_resource(self) -> str:
        """The resource that the token grants access to, never empty."""
        return self.resource or self.cloud.vault_resource

    @property
    def identity_parts(self) -> tuple[str, ...]:
        """The complete identity: equal for two requests only if one token serves both.

        It contains credentials, so store only its digest.
        """
        place = (self.cloud.authority, self.effective_resource, self.tenant)
        about = profile(self.identity)
        return (*place, about.mode.value, *about.fingerprint)


class TokenEndpoints(Struct, frozen=True):
    """The token endpoints of this machine and this cluster.

    Attributes:
        arc: the Azure Arc agent.
        proxy: the token proxy of AKS.
        emulator: the commands of the development vault that receives all requests; None in
            production.
    """

    arc: ArcAgent
    proxy: TokenProxyEndpoint
    emulator: EmulatorCommands | None = None

    @classmethod
    def from_settings(
        cls,
        settings: ProviderSettings,
        emulator: Emulator | None,
        privileges: Privileges | None = None,
    ) -> TokenEndpoints:
        """Return the endpoints that the settings name, or those of the emulator.

        Raises:
            PlatformError: --token-proxy-url is not a valid URL.
        """
        privileges = privileges or AzurePrivileges.of(emulator)
        url = check_proxy_url(settings.token_proxy_url)
        if emulator is None:
            return cls(ArcAgent(privileges), TokenProxyEndpoint(url, settings.sni_name, privileges))
        # A development machine is an Arc machine only if the SecretProviderClass says so.
        arc = ArcAgent(privileges, program=None)
        proxy = TokenProxyEndpoint(url, settings.sni_name, privileges, emulator.https_address)
        return cls(arc, proxy, emulator.commands)


class TokenSourceFactory:
    """Creates token sources.

    Args:
        https: provides the connections.
        endpoints: the token endpoints of machine and cluster.
        clock: reads the time.
        jobs: runs parse jobs; None for threads of its own.
    """

    def __init__(
        self,
        https: HttpsClient,
        endpoints: TokenEndpoints,
        clock: Clock | None = None,
        jobs: JobRunner | None = None,
    ) -> None:
        self._endpoints = endpoints
        self._jobs = jobs or ThreadJobRunner()
        self._clock = clock or SystemClock()
        self._http = TokenHttpClient(https)
        self._proxy = TokenProxy(self._http, endpoints.proxy)

    @property
    def emulator(self) -> EmulatorCommands | None:
        """The commands of the development vault that receives all requests, if there is one."""
        return self._endpoints.emulator

    def resolve(self, identity: Identity) -> Identity:
        """Return `identity`; on an Arc machine, its Arc identity instead of a VM identity.

        Raises:
            IdentityError: a user-assigned identity on an Arc machine.
        """
        if not isinstance(identity, VmManagedIdentity) or not self._endpoints.arc.is_installed:
            return identity
        if identity != VmManagedIdentity(""):
            raise IdentityError(
                f"{profile(identity).name} cannot be used on this machine: it is connected to "
                "Azure Arc, which has only a system-assigned identity",
                "Remove userAssignedIdentityID, and assign the role to the identity of the Arc "
                "machine: az connectedmachine show --resource-group GROUP --name MACHINE "
                "--query identity.principalId",
            )
        return ArcIdentity()

    def create(self, request: AccessTokenRequest) -> TokenSource:
        """Create the source for the tokens of `request`."""
        resource, clock = request.effective_resource, self._clock
        match request.identity:
            case ServicePrincipal() | CertificatePrincipal() | WorkloadIdentity():
                return EntraSource(
                    self._http,
                    request.identity,
                    tenant=request.tenant,
                    cloud=request.cloud,
                    resource=resource,
                    clock=clock,
                    jobs=self._jobs,
                )
            case VmManagedIdentity():
                return ImdsSource(self._http, request.identity, resource=resource, clock=clock)
            case ArcIdentity():
                return ArcSource(self._http, self._endpoints.arc, resource=resource, clock=clock)
            case PodIdentity():
                return NmiSource(self._http, request.identity, resource=resource, clock=clock)
            case IdentityBinding():
                return BindingSource(
                    self._proxy,
                    request.identity,
                    tenant=request.tenant,
                    resource=resource,
                    clock=clock,
                )
            case _:
                assert_never(request.identity)

    def endpoint(self, service: TokenService, cloud: AzureCloud) -> Endpoint:
        """Return where a token service is, for rate limit and circuit breaker."""
        match service:
            case TokenService.ENTRA:
                return endpoint_of(cloud.authority)
            case TokenService.TOKEN_PROXY:
                return endpoint_of(self._endpoints.proxy.url)
            case TokenService.IMDS | TokenService.ARC | TokenService.NMI:
                return endpoint_of(f"http://{self.endpoint_host(service, cloud)}")
            case token_service:
                assert_never(token_service)

    def endpoint_host(self, service: TokenService, cloud: AzureCloud) -> str:
        """Return the host of a token service, for messages."""
        match service:
            case TokenService.ENTRA:
                return urlsplit(cloud.authority).hostname or cloud.authority
            case TokenService.TOKEN_PROXY:
                return urlsplit(self._endpoints.proxy.url).hostname or self._endpoints.proxy.url
            case TokenService.IMDS:
                return "169.254.169.254"
            case TokenService.ARC:
                return "127.0.0.1:40342"
            case TokenService.NMI:
                return "localhost:2579"
            case token_service:
                assert_never(token_service)
