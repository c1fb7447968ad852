"""The client side of the emulator: connections go to it, host names stay those of the cloud."""

from __future__ import annotations

import socket
import ssl
from functools import partial
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp.abc import ResolveResult
from msgspec import Struct

from keyferry.errors import PlatformError, Stage
from keyferry.net.connector import KEEP_IDLE_SECONDS
from keyferry.net.http_client import HttpsSettings
from keyferry.providers.emulator import Emulator, EmulatorCommands
from keyferry_devvault.folder import is_running, read_connection

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence
    from pathlib import Path

    from aiohappyeyeballs import AddrInfoType
    from aiohttp.abc import AbstractResolver
    from aiohttp.client_proto import ResponseHandler
    from aiohttp.tracing import Trace

    from keyferry.net.address_guard import AddressGuard


_PROBE_SECONDS = 1.0


class DevRedirect(Struct, frozen=True):
    """Sends every connection to an emulator on loopback, as `curl --connect-to` does.

    URLs, host names and SNI stay those of the cloud; only the TCP connection goes elsewhere, and
    the development CA is trusted instead of the public ones.

    Attributes:
        https: (address, port) for https URLs, whatever their host.
        http: (address, port) for http URLs, such as those of IMDS.
        ca_file: the PEM file of the development CA.
    """

    https: tuple[str, int]
    http: tuple[str, int]
    ca_file: Path

    @classmethod
    def read(cls, folder: Path) -> DevRedirect:
        """Return the redirection to the emulator whose data folder is `folder`.

        Raises:
            ConnectionFailedError: no emulator runs there.
            PlatformError: `connection.json` is malformed or names an address that is not loopback,
                or the folder cannot be read.
        """
        if not is_running(folder):
            raise EmulatorCommands(folder).not_running_error()
        try:
            addresses, ca_file = read_connection(folder)
        except FileNotFoundError:  # it is starting or stopping
            raise EmulatorCommands(folder).not_running_error() from None
        return cls(addresses.https, addresses.http, ca_file)

    def connector(
        self,
        *,
        resolver: AbstractResolver | None = None,
        guard: AddressGuard | None = None,
    ) -> aiohttp.TCPConnector:
        """Return a new connection pool that connects to the emulator only.

        Args:
            resolver: not used.
            guard: not used.

        Raises:
            PlatformError: the development CA cannot be read.
        """
        return self._connector(self._context(), resolver=resolver, guard=guard)

    def _connector(
        self,
        context: ssl.SSLContext,
        *,
        resolver: AbstractResolver | None = None,
        guard: AddressGuard | None = None,
    ) -> aiohttp.TCPConnector:
        del resolver, guard
        return _RedirectingConnector(https=self.https, http=self.http, context=context)

    def _context(self) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(cafile=self.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise PlatformError(
                f"the CA of the development vault cannot be read from {self.ca_file}: {error}",
                "Restart the development vault; it writes this file when it starts.",
                stage=Stage.TLS,
            ) from error

    def is_running(self) -> bool:
        """Return whether the emulator is running, or at least something listens on its port."""
        folder = self.ca_file.parent
        try:
            if folder.is_dir():
                return is_running(folder)
        except (PlatformError, OSError):
            pass
        # A process without rights can neither open the lock nor see a private folder.
        try:
            socket.create_connection(self.https, _PROBE_SECONDS).close()
        except OSError:
            return False
        return True

    def emulator(self) -> Emulator:
        """Return what providers need to know about the emulator.

        Its connections use no proxy, because the emulator is on loopback. The CA is read now: a
        process without rights may make the connections later.

        Raises:
            PlatformError: the development CA cannot be read.
        """
        return Emulator(
            HttpsSettings(connector=partial(self._connector, self._context())),
            self.https,
            self.ca_file,
            self.ca_file.parent.resolve() / "arc",
            self.is_running,
        )


def connect(folder: Path) -> Emulator:
    """Return the running emulator whose data folder is `folder`; the entry point of `--dev-vault`.

    Raises:
        ConnectionFailedError: no emulator runs there.
        PlatformError: the folder cannot be used.
    """
    return DevRedirect.read(folder).emulator()


class _RedirectingConnector(aiohttp.TCPConnector):
    """Connects to fixed addresses, by scheme; URLs, SNI and certificate checks stay as they are.

    It overrides private methods, because aiohttp has no public way: a resolver is not called for IP
    addresses (IMDS has one) and does not see the scheme, and a socket factory cannot change the
    address. Hence the upper bound on aiohttp in the pyproject.toml of this distribution.
    """

    def __init__(
        self, *, https: tuple[str, int], http: tuple[str, int], context: ssl.SSLContext
    ) -> None:
        super().__init__(limit=0, keepalive_timeout=KEEP_IDLE_SECONDS, ssl=context)
        self._https = https
        self._http = http

    async def _resolve_host(
        self, host: str, port: int, traces: Sequence[Trace] | None = None
    ) -> list[ResolveResult]:
        """Return a fixed address, so that nothing is looked up on a machine that may be offline."""
        return [_resolve_result(host, self._https)]

    async def _wrap_create_connection(
        self, *args: Any, addr_infos: list[AddrInfoType], req: aiohttp.ClientRequest, **kwargs: Any
    ) -> tuple[asyncio.Transport, ResponseHandler]:
        """Connect to the port of the scheme; only here aiohttp knows both request and address."""
        target = self._https if req.is_ssl() else self._http
        addr_infos[:] = self._convert_hosts_to_addr_infos([_resolve_result(req.host, target)])
        return await super()._wrap_create_connection(
            *args, addr_infos=addr_infos, req=req, **kwargs
        )


def _resolve_result(host: str, address: tuple[str, int]) -> ResolveResult:
    return ResolveResult(
        hostname=host, host=address[0], port=address[1], family=0, proto=0, flags=0
    )
