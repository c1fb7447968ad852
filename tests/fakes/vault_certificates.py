"""Certificates of a CA, a vault and a client, as files."""

from __future__ import annotations

import ssl
from pathlib import Path

from tests.fakes.certificates import IssuedCertificate, issue_certificate, new_ec_key


class VaultCertificates:
    """Certificates of a CA, a vault and a client, as files."""

    def __init__(self, folder: Path, *, identifiers: bool = True) -> None:
        self.authority = issue_certificate(
            "ca", new_ec_key(), is_ca=True, key_identifiers=identifiers
        )
        self.server = self._write(folder, "server", identifiers=identifiers)
        self.client = self._write(folder, "client", identifiers=identifiers)
        self.ca = folder / "ca.pem"
        self.ca.write_bytes(self.authority.pem)
        self.folder = folder

    def _write(self, folder: Path, name: str, *, identifiers: bool) -> IssuedCertificate:
        made = issue_certificate(name, new_ec_key(), self.authority, key_identifiers=identifiers)
        (folder / f"{name}.crt").write_bytes(made.pem)
        (folder / f"{name}.key").write_bytes(made.key_pem)
        return made

    def context(self, *, wants_client: bool = False) -> ssl.SSLContext:
        """Return the TLS context of the vault, whose host name is test.domain.com."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.folder / "server.crt", self.folder / "server.key")
        if wants_client:
            context.load_verify_locations(self.ca)
            context.verify_mode = ssl.CERT_OPTIONAL
        return context


SERVER_NAME_PARAMETER = {"vaultTLSServerName": "test.domain.com"}
