"""Address, namespace and TLS settings of one vault, as a SecretProviderClass sets them. [pure]"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from msgspec import Struct

from keyferry.errors import KeyferryError, PlatformError, excerpt
from keyferry.providers.settings import TlsLayer
from keyferry.records import replace
from keyferry.resilience.call_context import Endpoint, endpoint_of


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """The TLS settings of one vault, and the cache key of TLS contexts.

    A lease record stores these fields by name: see `RECORD_FORMAT`.

    Attributes:
        cas: the layers whose CAs are trusted; none to trust only those of the system.
        system_cas: whether the CAs of the system are trusted in addition to `cas`.
        server_name: name sent as SNI and expected in the certificate; "" for the address's host.
        client_cert: path of the client certificate; "" for none.
        client_key: path of its private key.
        client_from_class: whether a SecretProviderClass names these two paths.
        client_pem: certificate and key in PEM, instead of the two files.
        skip_verify: whether the vault's certificate is not verified.
    """

    cas: tuple[TlsLayer, ...] = ()
    system_cas: bool = True
    server_name: str = ""
    client_cert: str = ""
    client_key: str = ""
    client_from_class: bool = False
    client_pem: bytes = field(default=b"", repr=False)
    skip_verify: bool = False

    @property
    def is_tenants(self) -> bool:
        """Whether a SecretProviderClass or a pod's Secret may be the source of a setting."""
        return bool(
            self.client_from_class
            or self.client_pem
            or self.skip_verify
            or any(layer.from_class for layer in self.cas)
        )

    @property
    def context_settings(self) -> TlsSettings:
        """The settings that belong to a TLS context; the server name belongs to a connection."""
        return replace(self, server_name="")

    @property
    def identity_parts(self) -> tuple[str, ...]:
        """Parts that are equal for settings that authenticate the same vault and the same client.

        They contain the client's private key, so they must be hashed and not stored.
        """
        return (repr(self), self.client_pem.hex(), *(layer.ca_pem for layer in self.cas))


def merge_layers(
    layers: tuple[TlsLayer, ...], *, merges_cas: bool, error: type[KeyferryError] = PlatformError
) -> TlsSettings:
    """Merge the TLS settings of several layers; later layers take precedence.

    Args:
        layers: environment, flags and SecretProviderClass, in this order.
        merges_cas: whether the CAs of all layers and of the system are trusted, instead of only
            those of the last layer that names a CA.
        error: exception type for invalid settings.

    Raises:
        KeyferryError: a layer names a client certificate without its key, or the reverse.
    """
    server_name = client_cert = client_key = ""
    client_from_class = skip_verify = False
    for layer in layers:
        if bool(layer.client_cert) != bool(layer.client_key):
            raise error(
                "the TLS client certificate is incomplete: its "
                f"{'key' if layer.client_cert else 'certificate'} file is not set",
                "Set both in the same place: vaultTLSClientCertPath and vaultTLSClientKeyPath.",
            )
        server_name = layer.server_name or server_name
        if layer.client_cert:
            client_cert, client_key = layer.client_cert, layer.client_key
            client_from_class = layer.from_class
        skip_verify = skip_verify or layer.skip_verify
    with_cas = tuple(layer for layer in layers if layer.ca_file or layer.ca_pem or layer.ca_folder)
    return TlsSettings(
        cas=_only_cas(with_cas if merges_cas else with_cas[-1:]),
        system_cas=merges_cas or not with_cas,
        server_name=server_name,
        client_cert=client_cert,
        client_key=client_key,
        client_from_class=client_from_class,
        skip_verify=skip_verify,
    )


def _only_cas(layers: tuple[TlsLayer, ...]) -> tuple[TlsLayer, ...]:
    """Reduce layers to the CA that takes effect, so that equal trust compares equal."""
    return tuple(
        TlsLayer(
            ca_file=layer.ca_file,
            ca_pem="" if layer.ca_file else layer.ca_pem,
            ca_folder="" if layer.ca_file or layer.ca_pem else layer.ca_folder,
            from_class=layer.from_class,
        )
        for layer in layers
    )


DEFAULT_ADDRESS = "https://127.0.0.1:8200"
_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]")
_NAMESPACE = re.compile(r"[^\s\x00-\x1f\x7f]{1,500}")


class Address(Struct, frozen=True):
    """Where a vault listens.

    Attributes:
        base: scheme, host, port and path, without a trailing slash.
        socket: path of the Unix socket to connect to instead; "" to connect to the host.
    """

    base: str
    socket: str = ""

    @property
    def host(self) -> str:
        """Host, port and path, or the socket: the name in messages."""
        return f"unix:{self.socket}" if self.socket else self.base.partition("://")[2].lower()


@dataclass(frozen=True, slots=True)
class Server:
    """One vault and how to send requests to it.

    A lease record stores these fields by name: see `RECORD_FORMAT`.

    Attributes:
        address: where it listens.
        namespace: namespace that is sent with each request; "" for the root namespace.
        tls: TLS settings.
        address_from_class: whether a SecretProviderClass names the address.
        headers: further headers of each request.
        follow_redirects: whether one redirect is followed.
        proxy: URL of the HTTP proxy for this vault; "" to use the environment.
        command: name of the vault's command line tool, for remedies.
    """

    address: Address
    namespace: str = ""
    tls: TlsSettings = field(default_factory=TlsSettings)
    address_from_class: bool = False
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    follow_redirects: bool = True
    proxy: str = ""
    command: str = "vault"

    @property
    def host(self) -> str:
        """The host and port, or the socket, as messages name the vault."""
        return self.address.host

    @property
    def endpoint(self) -> Endpoint:
        """Where requests are sent, for rate limit and circuit breaker."""
        address = self.address
        url = f"unix:{address.socket}" if address.socket else address.base
        return endpoint_of(url, self.namespace, self.tls, self.proxy)

    def with_client_certificate(self, pem: bytes) -> Server:
        """Return a copy that authenticates with a client certificate.

        Args:
            pem: certificate and private key; empty to return this server unchanged.
        """
        if not pem:
            return self
        tls = replace(
            self.tls, client_cert="", client_key="", client_from_class=False, client_pem=pem
        )
        return replace(self, tls=tls)

    def __str__(self) -> str:
        """Return the name of the vault for messages, with its namespace."""
        name = f"vault {self.host}"
        return f"{name}, namespace {excerpt(self.namespace)}" if self.namespace else name


def parse_address(text: str) -> Address:
    """Parse the address of a vault.

    Raises:
        ValueError: the address is invalid; the text completes "the address ...".
    """
    if text.startswith("unix://"):
        path = text.removeprefix("unix://")
        if not path.startswith("/") or "\0" in path:
            raise ValueError("is not an absolute path of a Unix socket")
        return Address("http://localhost", path)
    try:
        parts = urlsplit(text.strip())
        port = parts.port
    except ValueError:
        raise ValueError("is not a valid URL") from None
    if parts.scheme not in ("http", "https"):
        raise ValueError("does not begin with https://, http:// or unix://")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError("contains a user name, a query or a fragment")
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    if not _HOST.fullmatch(host) or not re.fullmatch(r"[A-Za-z0-9._~/-]*", parts.path):
        raise ValueError("has an invalid host name or path")
    host_and_port = host if port is None else f"{host}:{port}"
    return Address(f"{parts.scheme}://{host_and_port}{parts.path.rstrip('/')}")


def is_valid_namespace(text: str) -> bool:
    """Return whether `text` can be the path of a namespace; "" is the root namespace."""
    return not text or bool(_NAMESPACE.fullmatch(text) and text.isascii())
