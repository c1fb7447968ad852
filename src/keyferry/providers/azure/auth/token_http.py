"""Single requests to token endpoints, over the connections of the one HTTP client.

There is no retry here: `keyferry.resilience` decides about that, whatever the endpoint.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import aiohttp

from keyferry.providers.azure.auth.access_token import MalformedTokenResponseError, TokenResponse

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

    from yarl import URL

    from keyferry.net.http_client import HttpsClient

MACHINE_CONNECT_SECONDS = 2.0
"""IMDS, NMI and the Arc agent are on the same machine; where nothing answers by then, is none."""
_MAX_RESPONSE_BYTES = 1 << 18


@dataclass(frozen=True, slots=True)
class EndpointTls:
    """How the endpoint proves who it is, where that is not the host of its URL.

    Attributes:
        server_name: sent as SNI, and what its certificate must be for.
        context: whom to trust; None: as for every other connection.
    """

    server_name: str
    context: ssl.SSLContext | None


class TokenHttpClient:
    """Makes the requests.

    Args:
        https: the connections.
    """

    def __init__(self, https: HttpsClient) -> None:
        self._https = https

    async def get(self, url: URL, headers: Mapping[str, str], seconds: float) -> TokenResponse:
        """GET from this machine: never through a proxy, and soon given up.

        Args:
            url: encoded.
            headers: of the request.
            seconds: the time limit.

        Raises:
            aiohttp.ClientError, TimeoutError, OSError: no whole answer came.
            NoTokenInAnswerError: it is longer than any answer of a token endpoint.
        """
        timeout = aiohttp.ClientTimeout(total=seconds, connect=MACHINE_CONNECT_SECONDS)
        session = self._https.session(url, proxied=False)
        async with session.get(
            url, headers=headers, timeout=timeout, allow_redirects=False
        ) as response:
            return await _read_response(response)

    async def post(
        self, url: URL, form: Mapping[str, str], seconds: float, *, tls: EndpointTls | None = None
    ) -> TokenResponse:
        """POST a form, which holds a credential, so that no redirection is followed.

        Args:
            url: encoded.
            form: the fields; never logged.
            seconds: the time limit.
            tls: how an endpoint inside the cluster proves who it is, to which no proxy leads;
                None: an endpoint of a cloud.

        Raises:
            As `get`.
        """
        timeout = aiohttp.ClientTimeout(total=seconds, connect=self._https.settings.connect_timeout)
        async with self._https.session(url, proxied=tls is None).post(
            url,
            data=dict(form),
            timeout=timeout,
            allow_redirects=False,
            server_hostname=tls.server_name if tls else None,
            ssl=(tls and tls.context) or True,
        ) as response:
            return await _read_response(response)


async def _read_response(response: aiohttp.ClientResponse) -> TokenResponse:
    body = bytearray()
    async for chunk in response.content.iter_chunked(1 << 14):
        body += chunk
        if len(body) > _MAX_RESPONSE_BYTES:
            raise MalformedTokenResponseError
    return TokenResponse(response.status, response.headers, bytes(body))
