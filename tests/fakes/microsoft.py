"""Microsoft's own clients of Key Vault and Entra, connected to a development vault.

They check that the development vault responds as the official clients expect. Only the addresses
of the connections are changed.

async with microsoft_clients(vault, tenant=..., client_id=..., client_secret=...) as clients:
    await clients.secrets.set_secret("db", "s3cret")
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from azure.core.pipeline.transport import AioHttpTransport
from azure.identity.aio import ClientSecretCredential
from azure.keyvault.certificates.aio import CertificateClient
from azure.keyvault.keys.aio import KeyClient
from azure.keyvault.secrets.aio import SecretClient

from tests.fakes.devvault import DevVault


@dataclass(frozen=True, slots=True)
class MicrosoftClients:
    """The clients of one vault and one application."""

    secrets: SecretClient
    keys: KeyClient
    certificates: CertificateClient


class _FixedAddressResolver(AbstractResolver):
    """Resolves every host name to the address of the development vault."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        there, its_port = self._address
        return [
            ResolveResult(hostname=host, host=there, port=its_port, family=family, proto=0, flags=0)
        ]

    async def close(self) -> None:
        pass


@asynccontextmanager
async def microsoft_clients(
    vault: DevVault,
    *,
    name: str,
    tenant: str,
    client_id: str,
    client_secret: str,
) -> AsyncIterator[MicrosoftClients]:
    """Yield clients of the vault `name`, authenticated as an application, with the newest API."""
    context = ssl.create_default_context(cafile=vault.redirect.ca_file)
    connector = aiohttp.TCPConnector(
        resolver=_FixedAddressResolver(vault.redirect.https), ssl=context
    )
    url = f"https://{name}.vault.azure.net"
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        transport = AioHttpTransport(session=session, session_owner=False)
        credential = ClientSecretCredential(
            tenant, client_id, client_secret, transport=transport, disable_instance_discovery=True
        )
        await stack.enter_async_context(credential)
        yield MicrosoftClients(
            SecretClient(url, credential, transport=transport),
            KeyClient(url, credential, transport=transport),
            CertificateClient(url, credential, transport=transport),
        )
