"""One vault as a class names it: where, in which namespace, how it proves who it is. [pure]"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from keyferry.excerpt import excerpt
from keyferry.providers.vault.http.tls_settings import TlsSettings

DEFAULT_ADDRESS = "https://127.0.0.1:8200"
_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]")
_NAMESPACE = re.compile(r"[^\s\x00-\x1f\x7f]{1,500}")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a vault listens.

    Attributes:
        base: scheme, host, port and path, without a slash at its end.
        socket: the Unix socket to connect to instead; "" for the host.
    """

    base: str
    socket: str = ""

    @property
    def host(self) -> str:
        """What shares one budget of requests, and what messages call it."""
        return f"unix:{self.socket}" if self.socket else self.base.partition("://")[2].lower()


@dataclass(frozen=True, slots=True)
class Server:
    """Whom to ask.

    Attributes:
        address: where it listens.
        namespace: sent along; "" for the root.
        tls: how it is talked to.
        headers: further ones for every request.
        redirects: whether one redirect is followed.
        proxy: of HTTP, for this vault; "" for those of the environment.
        command: its command line, for remedies.
    """

    address: Address
    namespace: str = ""
    tls: TlsSettings = field(default_factory=TlsSettings)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    redirects: bool = True
    proxy: str = ""
    command: str = "vault"

    @property
    def host(self) -> str:
        """How messages call it."""
        return self.address.host

    def with_client_certificate(self, pem: bytes) -> Server:
        """The same with a client certificate and its key, unless `pem` is empty."""
        if not pem:
            return self
        return replace(self, tls=replace(self.tls, client_cert="", client_key="", client_pem=pem))

    def __str__(self) -> str:
        """How a person would call it."""
        where = f"vault {self.host}"
        return f"{where}, namespace {excerpt(self.namespace)}" if self.namespace else where


def parse_address(text: str) -> Address:
    """The address that `text` means.

    Raises:
        ValueError: it is none; the text says why, as the end of "the address ...".
    """
    if text.startswith("unix://"):
        path = text.removeprefix("unix://")
        if not path.startswith("/") or "\0" in path:
            raise ValueError("names no absolute path of a socket")
        return Address("http://localhost", path)
    try:
        parts = urlsplit(text.strip())
        port = parts.port
    except ValueError:
        raise ValueError("is no URL") from None
    if parts.scheme not in ("http", "https"):
        raise ValueError("does not begin with https://, http:// or unix://")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError("holds a user name, a query or a fragment")
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    if not _HOST.fullmatch(host) or not re.fullmatch(r"[A-Za-z0-9._~/-]*", parts.path):
        raise ValueError("has no usable host name or path")
    where = host if port is None else f"{host}:{port}"
    return Address(f"{parts.scheme}://{where}{parts.path.rstrip('/')}")


def is_valid_namespace(text: str) -> bool:
    """Whether a namespace can be called so; "" is the root."""
    return not text or bool(_NAMESPACE.fullmatch(text) and text.isascii())
