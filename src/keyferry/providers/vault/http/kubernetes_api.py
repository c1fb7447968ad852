"""The API of the cluster that this process runs in, as whoever its service account is."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from keyferry.errors import PlatformError, Stage
from keyferry.providers.settings import TlsLayer
from keyferry.providers.vault.http.server import Server, TlsSettings, parse_address
from keyferry.resilience.call_context import CallContext

if TYPE_CHECKING:
    from keyferry.providers.vault.http.client import RawResponse, VaultHttp, VaultRequest
    from keyferry.resilience.fetcher import Fetcher

JSON_CONTENT_TYPE = "application/json"
_IDENTITY_MODE = "driver"
"""Whose identity it is: a label of the metrics."""


class KubernetesApi:
    """Makes requests.

    Args:
        http: the connections.
        fetcher: decides about turns and tries.
        url: of the API.
        service_account_folder: where the service account of this process is: `token`, `ca.crt` and
            `namespace`.
    """

    def __init__(
        self, http: VaultHttp, fetcher: Fetcher, *, url: str, service_account_folder: str
    ) -> None:
        self._http = http
        self._fetcher = fetcher
        self._address = parse_address(url)
        self._service_account_folder = Path(service_account_folder)

    async def send(self, request: VaultRequest) -> RawResponse:
        """The answer to a request, be it a refusal.

        Raises:
            PlatformError: the service account of this process cannot be read.
            KeyferryError: no answer came.
        """
        server = await asyncio.to_thread(self._api_server)
        return await self._fetcher.transport.send(
            lambda seconds: self._http.send(server, request, seconds),
            CallContext.new(server.host, mode=_IDENTITY_MODE),
        )

    async def namespace(self) -> str:
        """The namespace that this process runs in.

        Raises:
            PlatformError: it cannot be read.
        """
        return await asyncio.to_thread(self._read_file, "namespace")

    def _api_server(self) -> Server:
        """The API, with the token of this process, which changes while it runs."""
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
                f"the {name} of this process cannot be read from "
                f"{self._service_account_folder}/{name}",
                "Set automountServiceAccountToken of the pod of Keyferry to true.",
                stage=Stage.IDENTITY,
            ) from error
