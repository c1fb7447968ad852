"""Certificates, each with a key and a secret of the same name and version."""

from __future__ import annotations

import base64
import secrets as random
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.serialization import Encoding
from msgspec import Struct

from keyferry_devvault.crypto.certificate_material import (
    PKCS12_TYPE,
    CertificateMaterial,
    issue_certificate,
    parse_material,
    secret_value,
)
from keyferry_devvault.crypto.key_material import generate_key, key_kind, key_pem
from keyferry_devvault.model import SecretAttributes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from keyferry_devvault.crypto.certificate_material import Signer
    from keyferry_devvault.model import VaultObjectVersion
    from keyferry_devvault.storage.objects import ObjectTable
    from keyferry_devvault.storage.secrets import SecretTable


class CertificateSpec(Struct, frozen=True):
    """The properties of a new certificate.

    Attributes:
        common_name: common name of its subject; "" for the first host.
        hosts: its DNS names.
        kind: type of its key.
        size: size of an RSA key in bits.
        curve: curve of an EC key.
        content_type: content type of its secret.
        signed_by_ca: whether the development CA signs it; otherwise it is self-signed.
    """

    common_name: str = ""
    hosts: Sequence[str] = ()
    kind: str = "RSA"
    size: int = 2048
    curve: str = "P-256"
    content_type: str = PKCS12_TYPE
    signed_by_ca: bool = False


@dataclass(frozen=True, slots=True)
class CertificateStore:
    """Creates, imports and deletes certificates with their keys and secrets.

    Attributes:
        secrets: the table of secrets.
        keys: the table of keys.
        certificates: the table of certificates.
        signer: returns the development CA, and creates it if it is missing.
        wall_time: returns Unix time.
    """

    secrets: SecretTable
    keys: ObjectTable
    certificates: ObjectTable
    signer: Callable[[], Signer] = field(repr=False)
    wall_time: Callable[[], float] = field(repr=False)

    def create(self, vault: str, name: str, spec: CertificateSpec) -> VaultObjectVersion:
        """Create a certificate.

        Raises:
            RequestInvalidError: the name or a part of `spec` is invalid.
            ObjectUnusableError: a deleted object of this name can still be recovered.
        """
        key = generate_key(spec.kind, size=spec.size, curve=spec.curve)
        material = issue_certificate(
            spec.common_name or (spec.hosts[0] if spec.hosts else name),
            key,
            hosts=spec.hosts,
            now=datetime.fromtimestamp(self.wall_time(), UTC),
            signer=self.signer() if spec.signed_by_ca else None,
        )
        return self._put(vault, name, material, spec.content_type, kind=spec.kind)

    def import_(
        self,
        vault: str,
        name: str,
        content: bytes,
        *,
        password: str | None = None,
        content_type: str | None = None,
        enabled: bool = True,
    ) -> VaultObjectVersion:
        """Import a certificate with its key from PEM or PKCS#12.

        Args:
            vault: name of the vault.
            name: name of the certificate.
            content: PEM, PKCS#12, or either in base64.
            password: password of PKCS#12.
            content_type: content type of its secret; None for the format of `content`.
            enabled: whether it can be read.

        Raises:
            RequestInvalidError: the content or the name is invalid.
            ObjectUnusableError: a deleted object of this name can still be recovered.
        """
        material, detected = parse_material(content, password)
        chosen = content_type or detected
        kind = key_kind(material.key)
        return self._put(vault, name, material, chosen, kind=kind, enabled=enabled)

    def set_enabled(
        self, vault: str, name: str, version: str | None = None, *, enabled: bool = True
    ) -> VaultObjectVersion:
        """Enable or disable a version together with its key and its secret.

        Raises:
            ObjectNotFoundError: there is no such version.
        """
        row = self.certificates.set_enabled(vault, name, version, enabled=enabled)
        self.keys.set_enabled(vault, name, row.version, enabled=enabled)
        self.secrets.update(vault, name, row.version, SecretAttributes(enabled=enabled))
        return row

    def delete(self, vault: str, name: str) -> None:
        """Delete a certificate together with its key and its secret.

        Raises:
            ObjectNotFoundError: there is no such certificate.
        """
        self.certificates.delete(vault, name)
        for table in (self.keys, self.secrets):
            if table.find(vault, name):
                table.delete(vault, name)

    def recover(self, vault: str, name: str) -> None:
        """Undo `delete`."""
        for table in (self.certificates, self.keys, self.secrets):
            table.recover(vault, name)

    def purge(self, vault: str, name: str) -> None:
        """Delete a deleted certificate permanently, with its key and its secret."""
        for table in (self.certificates, self.keys, self.secrets):
            table.purge(vault, name)

    def _put(
        self,
        vault: str,
        name: str,
        material: CertificateMaterial,
        content_type: str,
        *,
        kind: str,
        enabled: bool = True,
    ) -> VaultObjectVersion:
        version = random.token_hex(16)
        attributes = SecretAttributes(
            enabled=enabled,
            content_type=content_type,
            expires=int(material.leaf.not_valid_after_utc.timestamp()),
            not_before=int(material.leaf.not_valid_before_utc.timestamp()),
        )
        value = secret_value(material, content_type)
        self.secrets.set(vault, name, value, attributes, certificate_version=version)
        document = {"pem": key_pem(material.key), "kty": kind, "managed": "yes"}
        self.keys.put(vault, name, version, document, enabled=enabled)
        cer = base64.b64encode(material.leaf.public_bytes(Encoding.DER)).decode()
        described = {"cer": cer, "content_type": content_type, "kty": kind}
        return self.certificates.put(vault, name, version, described, enabled=enabled)
