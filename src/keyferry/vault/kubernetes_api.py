"""The API of the cluster that this process runs in, as whoever its service account is."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from keyferry.contract import Purpose
from keyferry.errors import Hop, PlatformError
from keyferry.vault.server import Server, parse_address
from keyferry.vault.tls_settings import TlsSettings
from keyferry.vault_settings import TlsLayer

if TYPE_CHECKING:
    from keyferry.economy.hub import Economy
    from keyferry.retry import TryFailed
    from keyferry.vault.http import VaultHttp, VaultReply, VaultRequest

JSON = "application/json"
_MODE = "driver"
"""Whose identity it is: a label of the metrics."""


class KubernetesApi:
    """Makes requests.

    Args:
        http: the connections.
        economy: decides about turns and tries.
        url: of the API.
        folder: where the service account of this process is: `token`, `ca.crt` and `namespace`.
    """

    def __init__(self, http: VaultHttp, economy: Economy, *, url: str, folder: str) -> None:
        self._http = http
        self._economy = economy
        self._address = parse_address(url)
        self._folder = Path(folder)

    async def send(self, request: VaultRequest) -> VaultReply:
        """The answer to a request, be it a refusal.

        Raises:
            PlatformError: the service account of this process cannot be read.
            KeyferryError: no answer came.
        """
        server = await asyncio.to_thread(self._server)

        async def attempt(seconds: float) -> VaultReply | TryFailed:
            return await self._http.send(server, request, seconds)

        return await self._economy.errand(server.host, Purpose.FIRST, mode=_MODE).run(attempt)

    async def namespace(self) -> str:
        """The namespace that this process runs in.

        Raises:
            PlatformError: it cannot be read.
        """
        return await asyncio.to_thread(self._read, "namespace")

    def _server(self) -> Server:
        """The API, with the token of this process, which changes while it runs."""
        ca = TlsLayer(ca_file=str(self._folder / "ca.crt"))
        return Server(
            self._address,
            tls=TlsSettings(cas=(ca,), machine_cas=False),
            headers=(("Authorization", f"Bearer {self._read('token')}"), ("Content-Type", JSON)),
        )

    def _read(self, name: str) -> str:
        try:
            return (self._folder / name).read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise PlatformError(
                f"the {name} of this process cannot be read from {self._folder}/{name}",
                "Set automountServiceAccountToken of the pod of Keyferry to true.",
                hop=Hop.IDENTITY,
            ) from error
