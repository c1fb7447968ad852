"""Servers with a certificate of their own, and the CA that vouches for it."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from tests.fakes.certificates import issue_certificate, new_ec_key


@dataclass(frozen=True)
class Tls:
    """A way to serve a host and a way to trust it."""

    context: ssl.SSLContext
    ca_file: Path


def tls_for(
    folder: Path, host: str = "*.vault.azure.net", until: timedelta = timedelta(days=1)
) -> Tls:
    """A server certificate, valid until now + `until`, and the CA that issued it."""
    authority = issue_certificate("test CA", new_ec_key(), is_ca=True)
    made = issue_certificate("server", new_ec_key(), authority, hosts=[host], valid_for=until)
    ca_file, server_file = folder / "ca.pem", folder / "server.pem"
    ca_file.write_bytes(authority.pem)
    server_file.write_bytes(made.key_pem + made.pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server_file)
    return Tls(context, ca_file)
