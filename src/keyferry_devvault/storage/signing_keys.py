"""The private keys that sign tokens: one of Entra ID, one of the emulated cluster."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from keyferry.errors import InternalError
from keyferry_devvault.crypto.jwt import Jwks, to_jwk
from keyferry_devvault.model import CLUSTER_ISSUER

if TYPE_CHECKING:
    from keyferry_devvault.storage.database import Database


class SigningKeyName(StrEnum):
    """The names of the keys."""

    ENTRA = "entra"
    CLUSTER = "cluster"


class SigningKeys:
    """Stores the private keys, and creates each on first use."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._loaded: dict[SigningKeyName, rsa.RSAPrivateKey] = {}

    def private_key(self, name: SigningKeyName) -> rsa.RSAPrivateKey:
        """Return the private key of this name."""
        if name not in self._loaded:
            self._loaded[name] = _parse_key(self._load_pem(name) or self._create_pem(name))
        return self._loaded[name]

    def public_jwks(self, name: SigningKeyName) -> Jwks:
        """Return the JWKS that the issuer publishes."""
        return Jwks([to_jwk(self.private_key(name).public_key())])

    def _load_pem(self, name: SigningKeyName) -> str | None:
        row = self._database.read(
            ("signing_key", name),
            lambda c: c.execute("SELECT pem FROM signing_key WHERE name = ?", (name,)).fetchone(),
        )
        return str(row[0]) if row else None

    def _create_pem(self, name: SigningKeyName) -> str:
        """Create and store a key, unless another process has already stored one; return its PEM."""
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        with self._database.write() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO signing_key VALUES (?, ?)", (name, _key_pem(key))
            )
            (pem,) = connection.execute(
                "SELECT pem FROM signing_key WHERE name = ?", (name,)
            ).fetchone()
            if name is SigningKeyName.CLUSTER:
                jwks = msgspec.json.encode(Jwks([to_jwk(_parse_key(pem).public_key())])).decode()
                connection.execute(
                    "INSERT OR REPLACE INTO issuer VALUES (?, ?)", (CLUSTER_ISSUER, jwks)
                )
        return str(pem)


def _key_pem(key: rsa.RSAPrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


def _parse_key(pem: str) -> rsa.RSAPrivateKey:
    key = serialization.load_pem_private_key(pem.encode(), password=None)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise InternalError("a signing key of the development vault is not an RSA key")
    return key
