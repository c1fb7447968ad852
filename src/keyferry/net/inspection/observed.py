"""What one connection showed. [pure]"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from keyferry.net.connection_errors import ConnectionProblem


class Inspection(Struct, frozen=True):
    """What one connection showed.

    Attributes:
        name: the host in messages.
        is_https: whether the connection uses TLS.
        proxy: scheme, host and port of the proxy; "" for none.
        addresses: the addresses of the host, or of the proxy; empty if nothing was looked up.
        is_address: whether the host is an address, so that there is nothing to look up.
        peer: the address and port that the connection reached; "" if it reached none.
        tls_version: such as `TLSv1.3`; "" without TLS.
        certificate: what the server presented in DER, accepted or not; empty if unknown.
        verifies: whether requests verify the certificate of the server.
        problem: why the connection failed; None if it is usable.
    """

    name: str
    is_https: bool
    proxy: str = ""
    addresses: tuple[str, ...] = ()
    is_address: bool = False
    peer: str = ""
    tls_version: str = ""
    certificate: bytes = b""
    verifies: bool = True
    problem: ConnectionProblem | None = None
