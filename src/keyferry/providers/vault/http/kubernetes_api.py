"""Sends requests to the Kubernetes API with the service account of this process."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from keyferry.errors import PlatformError, Stage
from keyferry.providers.settings import TlsLayer
from keyferry.providers.vault.http.server import Server, TlsSettings, parse_address
from keyferry.resilience.call_context import KEYFERRY, CallContext

if TYPE_CHECKING:
    from keyferry.providers.vault.http.client import RawResponse, VaultHttp, VaultRequest
    from keyferry.resilience.call_context import Caller
    from keyferry.resilience.transport import RetryingTransport

JSON_CONTENT_TYPE = "application/json"
_IDENTITY_MODE = "driver"
"""Value of the metrics label for the identity of this process."""


class KubernetesApi:
    """Client for the API of the cluster that this process runs in.

    Args:
        http: sends single requests.
        transport: limits and retries requests.
        url: URL of the API.
        service_account_folder: directory with the files `token`, `ca.crt` and `namespace` of this
            process's service account.
    """

    def __init__(
        self,
        http: VaultHttp,
        transport: RetryingTransport,
        *,
        url: str,
        service_account_folder: str,
    ) -> None:
        self._http = http
        self._transport = transport
        self._address = parse_address(url)
        self._service_account_folder = Path(service_account_folder)

    async def send(self, request: VaultRequest, caller: Caller = KEYFERRY) -> RawResponse:
        """Send a request and return the response, whatever its status.

        Args:
            request: the request.
            caller: on whose behalf the API is called.

        Raises:
            PlatformError: the service account of this process cannot be read.
            KeyferryError: the API did not respond.
        """
        server = await asyncio.to_thread(self._api_server)
        return await self._transport.send(
            lambda seconds: self._http.send(server, request, seconds),
            CallContext.new(server.endpoint, mode=_IDENTITY_MODE, caller=caller),
        )

    async def namespace(self) -> str:
        """Return the namespace that this process runs in.

        Raises:
            PlatformError: the file with the namespace cannot be read.
        """
        return await asyncio.to_thread(self._read_file, "namespace")

    def _api_server(self) -> Server:
        """Return the API server with the current token, which changes while the process runs."""
        ca = TlsLayer(ca_file=str(self._service_account_folder / "ca.crt"))
        return Server(
            self._address,
            tls=TlsSettings(cas=(ca,), system_cas=False),
            headers=(
                ("Authorization", f"Bearer {self._read_file('token')}"),
                ("Content-Type", JSON_CONTENT_TYPE),
            ),
        )

    def _read_file(self, name: str) -> str:
        try:
            return (self._service_account_folder / name).read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise PlatformError(
                f"the service account's {name} cannot be read from "
                f"{self._service_account_folder}/{name}",
                "Set automountServiceAccountToken: true in the pod of Keyferry.",
                stage=Stage.IDENTITY,
            ) from error
