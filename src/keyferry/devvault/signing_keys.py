"""The private keys that sign tokens: one for Entra, one for the issuer of the pretend cluster."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from keyferry.devvault.jwt import Jwks, jwk_of
from keyferry.devvault.model import CLUSTER_ISSUER
from keyferry.errors import InternalError

if TYPE_CHECKING:
    from keyferry.devvault.database import Database


class SigningKey(StrEnum):
    """The keys that there are."""

    ENTRA = "entra"
    CLUSTER = "cluster"


class SigningKeys:
    """Keeps the private keys; each is made when it is first needed."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._loaded: dict[SigningKey, rsa.RSAPrivateKey] = {}

    def private(self, name: SigningKey) -> rsa.RSAPrivateKey:
        """The private key of that name."""
        if name not in self._loaded:
            self._loaded[name] = _parse(self._stored(name) or self._make(name))
        return self._loaded[name]

    def published(self, name: SigningKey) -> Jwks:
        """The public half, as its issuer serves it."""
        return Jwks([jwk_of(self.private(name).public_key())])

    def _stored(self, name: SigningKey) -> str | None:
        row = self._database.read(
            ("signing_key", name),
            lambda c: c.execute("SELECT pem FROM signing_key WHERE name = ?", (name,)).fetchone(),
        )
        return str(row[0]) if row else None

    def _make(self, name: SigningKey) -> str:
        """Make and store the key; when another process was faster, its key stands."""
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        with self._database.write() as connection:
            connection.execute("INSERT OR IGNORE INTO signing_key VALUES (?, ?)", (name, _pem(key)))
            (pem,) = connection.execute(
                "SELECT pem FROM signing_key WHERE name = ?", (name,)
            ).fetchone()
            if name is SigningKey.CLUSTER:
                jwks = msgspec.json.encode(Jwks([jwk_of(_parse(pem).public_key())])).decode()
                connection.execute(
                    "INSERT OR REPLACE INTO issuer VALUES (?, ?)", (CLUSTER_ISSUER, jwks)
                )
        return str(pem)


def _pem(key: rsa.RSAPrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


def _parse(pem: str) -> rsa.RSAPrivateKey:
    key = serialization.load_pem_private_key(pem.encode(), password=None)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise InternalError("a signing key of the development vault is not an RSA key")
    return key
