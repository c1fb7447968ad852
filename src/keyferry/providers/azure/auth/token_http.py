"""Sends single requests to token endpoints, over the connections of the shared HTTP client.

It does not retry; `keyferry.resilience` does, for every endpoint.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from keyferry.aio.http_library import aiohttp
from keyferry.net.exchange import BodyTooLargeError, read_body
from keyferry.providers.azure.auth.access_token import MalformedTokenResponseError, TokenResponse

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

    from yarl import URL

    from keyferry.net.exchange import HttpResponse
    from keyferry.net.http_client import HttpsClient

MACHINE_CONNECT_SECONDS = 2.0
"""IMDS, NMI and the Arc agent are local; if none responds by then, it does not exist."""
_MAX_RESPONSE_BYTES = 1 << 18


class EndpointTls(Struct, frozen=True):
    """How to verify an endpoint whose TLS server name differs from the host of its URL.

    Attributes:
        server_name: sent as SNI; the certificate must be valid for it.
        context: the TLS context with the CAs to trust; None: the client's default.
    """

    server_name: str
    context: ssl.SSLContext | None


class TokenHttpClient:
    """Sends requests to token endpoints.

    Args:
        https: provides the connections.
    """

    def __init__(self, https: HttpsClient) -> None:
        self._https = https

    async def get(self, url: URL, headers: Mapping[str, str], seconds: float) -> TokenResponse:
        """Send a GET to a service of this machine: never through a proxy, with a short timeout.

        Args:
            url: the encoded URL.
            headers: the request headers.
            seconds: the timeout.

        Raises:
            aiohttp.ClientError, TimeoutError, OSError: no complete response arrived.
            MalformedTokenResponseError: the response is too long for a token endpoint.
        """
        timeout = aiohttp.ClientTimeout(total=seconds, connect=MACHINE_CONNECT_SECONDS)
        async with self._https.pool.request(
            "GET", url, proxied=False, headers=headers, timeout=timeout
        ) as response:
            return await _read_response(response)

    async def post(
        self,
        url: URL,
        form: Mapping[str, str],
        seconds: float,
        *,
        tls: EndpointTls | None = None,
        guarded: bool = False,
    ) -> TokenResponse:
        """Send a POST with a form. The form contains a credential, so no redirect is followed.

        Args:
            url: the encoded URL.
            form: the fields; never logged.
            seconds: the timeout.
            tls: how to verify an endpoint inside the cluster, which is reached without a proxy;
                None: an endpoint of a cloud.
            guarded: whether a SecretProviderClass names the endpoint.

        Raises:
            aiohttp.ClientError, TimeoutError, OSError, MalformedTokenResponseError: as `get`.
        """
        timeout = aiohttp.ClientTimeout(total=seconds, connect=self._https.settings.connect_timeout)
        async with self._https.pool.request(
            "POST",
            url,
            proxied=tls is None,
            guarded=guarded,
            data=dict(form),
            timeout=timeout,
            server_hostname=tls.server_name if tls else None,
            ssl=(tls and tls.context) or True,
        ) as response:
            return await _read_response(response)


async def _read_response(response: HttpResponse) -> TokenResponse:
    try:
        body = await read_body(response, max_bytes=_MAX_RESPONSE_BYTES)
    except BodyTooLargeError:
        raise MalformedTokenResponseError from None
    return TokenResponse(response.status, response.headers, body)
