"""How each identity mode gets its tokens: the second of the two places that a new mode touches."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, assert_never
from urllib.parse import urlsplit

from keyferry.azure.arc import ArcAgent, ArcSource
from keyferry.azure.entra import EntraSource
from keyferry.azure.machine import ImdsSource, NmiSource
from keyferry.azure.modes import (
    ArcIdentity,
    CertificatePrincipal,
    Endpoint,
    Identity,
    IdentityBinding,
    PodIdentity,
    ServicePrincipal,
    VmManagedIdentity,
    WorkloadIdentity,
    profile,
)
from keyferry.azure.token_http import TokenHttp
from keyferry.azure.token_proxy import BindingSource, ProxyPlace, TokenProxy, check_proxy_url
from keyferry.errors import IdentityError

if TYPE_CHECKING:
    from collections.abc import Callable

    from keyferry.azure.clouds import Cloud
    from keyferry.azure.token_source import TokenSource
    from keyferry.https import DevRedirect, HttpsClient
    from keyferry.provider_settings import ProviderSettings


@dataclass(frozen=True, slots=True)
class Login:
    """Who wants a token, of whom, for what.

    Attributes:
        identity: who.
        tenant: the tenant to get it from.
        cloud: the cloud whose token endpoint gives it.
        resource: what it is for; "" for the vaults of the cloud.
    """

    identity: Identity
    tenant: str
    cloud: Cloud
    resource: str = ""

    @property
    def audience(self) -> str:
        """What the token is for."""
        return self.resource or self.cloud.vault_resource

    @property
    def key(self) -> tuple[str, ...]:
        """The whole identity: equal only where one token serves both. It is not to be kept."""
        place = (self.cloud.authority, self.audience, self.tenant)
        return (*place, *profile(self.identity).fingerprint)


@dataclass(frozen=True, slots=True)
class TokenPlaces:
    """Where tokens come from on this machine and in this cluster."""

    arc: ArcAgent
    """The agent of Azure Arc."""
    proxy: ProxyPlace
    """The token proxy of AKS."""

    @classmethod
    def of(cls, settings: ProviderSettings, dev: DevRedirect | None) -> TokenPlaces:
        """The places that the settings mean; with a development vault they are all there.

        Raises:
            PlatformError: --token-proxy-url is none.
        """
        url = check_proxy_url(settings.token_proxy_url)
        if dev is None:
            return cls(ArcAgent(), ProxyPlace(url, settings.sni_name))
        # A development machine is no Arc machine unless the class says so.
        arc = ArcAgent(program=None, keys=dev.ca_file.parent.resolve() / "arc")
        return cls(arc, ProxyPlace(url, settings.sni_name, dev.ca_file, dev.https))


class TokenSources:
    """Makes the source for an identity.

    Args:
        https: the connections.
        places: where tokens come from.
        clock: seconds since 1970.
    """

    def __init__(
        self, https: HttpsClient, places: TokenPlaces, clock: Callable[[], float] = time.time
    ) -> None:
        self._places = places
        self._clock = clock
        self._http = TokenHttp(https)
        self._proxy = TokenProxy(self._http, places.proxy)

    def located(self, identity: Identity) -> Identity:
        """`identity` as it is on this machine: on an Arc machine the agent has it, not IMDS.

        Raises:
            IdentityError: a user-assigned identity on an Arc machine.
        """
        if not isinstance(identity, VmManagedIdentity) or not self._places.arc.is_installed:
            return identity
        if identity != VmManagedIdentity(""):
            raise IdentityError(
                f"{profile(identity).name} cannot be used on this machine: it is connected to "
                "Azure Arc, which has a system-assigned identity only",
                "Leave userAssignedIdentityID empty, and grant the identity of the Arc machine: "
                "az connectedmachine show --resource-group GROUP --name MACHINE "
                "--query identity.principalId",
            )
        return ArcIdentity()

    def new(self, login: Login) -> TokenSource:
        """The source of the tokens of `login`."""
        resource, clock = login.audience, self._clock
        match login.identity:
            case ServicePrincipal() | CertificatePrincipal() | WorkloadIdentity():
                return EntraSource(
                    self._http,
                    login.identity,
                    tenant=login.tenant,
                    authority=login.cloud.authority,
                    resource=resource,
                    clock=clock,
                )
            case VmManagedIdentity():
                return ImdsSource(self._http, login.identity, resource=resource, clock=clock)
            case ArcIdentity():
                return ArcSource(self._http, self._places.arc, resource=resource, clock=clock)
            case PodIdentity():
                return NmiSource(self._http, login.identity, resource=resource, clock=clock)
            case IdentityBinding():
                return BindingSource(
                    self._proxy, login.identity, tenant=login.tenant, resource=resource, clock=clock
                )
            case _:
                assert_never(login.identity)

    def host(self, login: Login) -> str:
        """The host of the endpoint that gives the tokens of `login`, for messages."""
        match profile(login.identity).endpoint:
            case Endpoint.ENTRA:
                return urlsplit(login.cloud.authority).hostname or login.cloud.authority
            case Endpoint.TOKEN_PROXY:
                return urlsplit(self._places.proxy.url).hostname or self._places.proxy.url
            case Endpoint.IMDS:
                return "169.254.169.254"
            case Endpoint.ARC:
                return "127.0.0.1:40342"
            case Endpoint.NMI:
                return "localhost:2579"
            case endpoint:
                assert_never(endpoint)
