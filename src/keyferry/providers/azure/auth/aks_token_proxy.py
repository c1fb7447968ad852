"""Requests tokens from the token proxy of AKS (identity binding).

The proxy replaces Entra. It shares the address of the API server and is selected by its TLS server
name, which is derived from a name in the API server's certificate. Upstream discovers that name at
start; Keyferry discovers it on the first use of the mode, so that other clusters never connect.

Source: docs/reference/upstream-azure-provider.md#identity-binding
"""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING

from msgspec import Struct
from yarl import URL

from keyferry.errors import IdentityError, PlatformError, SettingInvalidError
from keyferry.providers.azure.auth.access_token import AccessToken, parse_token
from keyferry.providers.azure.auth.entra_request import assertion_form, token_url
from keyferry.providers.azure.auth.sni import cluster_id, token_proxy_server_name
from keyferry.providers.azure.auth.token_http import EndpointTls, TokenHttpClient

if TYPE_CHECKING:
    from keyferry.aio.clock import Clock
    from keyferry.providers.azure.auth.identity import IdentityBinding, ServiceAccountToken
    from keyferry.providers.privileges import Privileges

API_SERVER = "kubernetes.default.svc.cluster.local"
_DISCOVERY_SECONDS = 10.0


class TokenProxyEndpoint(Struct, frozen=True):
    """The location of the token proxy.

    Attributes:
        url: prefix of every request URL: `<url>/<tenant>/oauth2/v2.0/token`.
        sni_name: its TLS server name; "" is discovered.
        privileges: loads the CA to trust, for each request because it rotates. Without one the CAs
            of the machine are trusted.
        connect_to: (address, port) of a development vault that receives the discovery connection
            instead of the API server.
    """

    url: str = f"https://{API_SERVER}"
    sni_name: str = ""
    privileges: Privileges | None = None
    connect_to: tuple[str, int] | None = None


def check_proxy_url(text: str) -> str:
    """Return the base URL of the token proxy; "" means the API server of this cluster.

    Raises:
        SettingInvalidError: the URL is not https, or has more than host, port and path.
    """
    if not text:
        return TokenProxyEndpoint().url
    try:
        url = URL(text)
        valid = url.scheme == "https" and bool(url.host) and not url.user and not url.password
        valid = valid and not url.query_string and not url.fragment
    except ValueError:
        valid = False
    if not valid:
        raise SettingInvalidError(
            "--token-proxy-url is not an https URL without user, query and fragment",
            f"Omit it to use {TokenProxyEndpoint().url}.",
        )
    return text.rstrip("/")


class TokenProxy:
    """The token proxy of this cluster, shared by all identity bindings.

    Args:
        http: sends the requests.
        endpoint: its location.
    """

    def __init__(self, http: TokenHttpClient, endpoint: TokenProxyEndpoint) -> None:
        self.http = http
        self.endpoint = endpoint
        self._sni_name = endpoint.sni_name

    async def tls(self) -> EndpointTls:
        """Return the server name and CA with which to verify the proxy.

        Raises:
            IdentityError: the server name cannot be discovered, or the CA cannot be read.
        """
        context = await self._ssl_context()
        if not self._sni_name:
            try:
                async with asyncio.timeout(_DISCOVERY_SECONDS):
                    self._sni_name = await self._discover_sni_name(context)
            except (OSError, TimeoutError) as error:
                raise _unavailable_error(_failure_reason(error)) from error
        return EndpointTls(self._sni_name, context)

    async def _ssl_context(self) -> ssl.SSLContext | None:
        """Return a context that trusts the cluster's CA, reloaded because it rotates; or None."""
        if self.endpoint.privileges is None:
            return None
        try:
            pem = await self.endpoint.privileges.load_cluster_ca()
            if not pem:
                return None
            return await asyncio.to_thread(ssl.create_default_context, cadata=pem.decode("ascii"))
        except (PlatformError, ssl.SSLError, ValueError) as error:
            raise _unavailable_error("the CA of the cluster cannot be read") from error

    async def _discover_sni_name(self, context: ssl.SSLContext | None) -> str:
        """Derive the server name from the API server's certificate."""
        address, port = self.endpoint.connect_to or (API_SERVER, 443)
        _, writer = await asyncio.open_connection(
            address,
            port,
            ssl=context or ssl.create_default_context(),
            server_hostname=API_SERVER,
        )
        try:
            certificate = writer.get_extra_info("peercert") or {}
        finally:
            writer.transport.abort()
        names = [name for kind, name in certificate.get("subjectAltName", ()) if kind == "DNS"]
        cluster = cluster_id(names)
        if not cluster:
            raise _unavailable_error("the certificate of the API server names no AKS cluster")
        return token_proxy_server_name(cluster)


class BindingSource:
    """Requests the tokens of one identity binding.

    Args:
        proxy: the token proxy.
        identity: the managed identity, and the service account that is bound to it.
        tenant: the tenant of the managed identity.
        resource: the resource that the tokens are for.
        clock: reads the time.
    """

    def __init__(
        self,
        proxy: TokenProxy,
        identity: IdentityBinding,
        *,
        tenant: str,
        resource: str,
        clock: Clock,
    ) -> None:
        self._proxy = proxy
        self._identity = identity
        self._clock = clock
        self._resource = resource
        self._url = URL(token_url(proxy.endpoint.url, tenant))

    async def request_token(
        self, federated_token: ServiceAccountToken | None, seconds: float
    ) -> AccessToken:
        """Implement `TokenSource`."""
        assertion = (federated_token or self._identity.service_account_token).text
        form = assertion_form(self._identity.client_id, assertion, resource=self._resource)
        tls = await self._proxy.tls()
        requested_at = self._clock.wall().timestamp()
        response = await self._proxy.http.post(self._url, form, seconds, tls=tls)
        return parse_token(response, now=requested_at)


def _unavailable_error(reason: str) -> IdentityError:
    return IdentityError(
        f"proxy transport not available: {reason}",
        "useAzureTokenProxy works only in AKS clusters with identity binding; elsewhere use "
        "workload identity (clientID without useAzureTokenProxy). For another proxy set "
        "--token-proxy-url and --sni-name.",
    )


def _failure_reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate of {API_SERVER} is not accepted ({error.verify_message})"
    if isinstance(error, TimeoutError):
        return f"{API_SERVER} did not respond in time"
    reason = error.strerror if isinstance(error, OSError) else None
    return f"{API_SERVER} could not be reached ({reason or type(error).__name__})"
