"""What comes out of a vault: the documents of its API, and what they mean once checked. [pure]

Source: azure, sections 5.1, 5.2 and 7. Words such as `secret value is nil` are upstream's.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from keyferry.errors import VaultError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Secret:
    """One version of a secret.

    Attributes:
        value: as it is in the vault.
        version: its version id.
        content_type: what the vault says of the value, or "".
        of_certificate: whether it is the secret behind a certificate: the vault names its key.
    """

    value: str = field(repr=False)
    version: str
    content_type: str = ""
    of_certificate: bool = False


@dataclass(frozen=True, slots=True)
class PublicKey:
    """The public half of one version of a key.

    Attributes:
        kind: `kty`: RSA, RSA-HSM, EC, EC-HSM; others cannot be delivered.
        curve: `crv`, "" for RSA.
        numbers: n, e, x and y as big-endian bytes, those that the vault tells.
        version: its version id.
    """

    kind: str
    curve: str
    numbers: Mapping[str, bytes] = field(hash=False)
    version: str

    def number(self, name: str) -> bytes:
        """One of its numbers.

        Raises:
            VaultError: the vault does not tell it.
        """
        if name not in self.numbers:
            raise VaultError(
                f"the key has no number {name}", "The vault's answer lacks it; try again."
            )
        return self.numbers[name]


@dataclass(frozen=True, slots=True)
class LeafCertificate:
    """One version of a certificate, without its chain and its key.

    Attributes:
        cer: DER, as the vault sends it, unread.
        version: its version id.
    """

    cer: bytes
    version: str


Content = Secret | PublicKey | LeafCertificate


@dataclass(frozen=True, slots=True)
class ListedVersion:
    """What the list of an object's versions says of one.

    Attributes:
        version: its id.
        enabled: None where the vault tells no attributes.
        created: seconds since 1970; 0 where the vault does not tell.
    """

    version: str
    enabled: bool | None
    created: int


class SecretDocument(msgspec.Struct, rename="camel"):
    """The answer to GET /secrets/NAME."""

    value: str | None = None
    id: str | None = None
    kid: str | None = None
    content_type: str | None = None

    def checked(self) -> Secret:
        """What it says.

        Raises:
            VaultError: something is missing.
        """
        if self.value is None:
            raise _nil("secret value")
        version = _version(self.id, "secret id")
        return Secret(self.value, version, self.content_type or "", bool(self.kid))


class _KeyNumbers(msgspec.Struct):
    kid: str | None = None
    kty: str | None = None
    crv: str | None = None
    n: str | None = None
    e: str | None = None
    x: str | None = None
    y: str | None = None


class KeyDocument(msgspec.Struct):
    """The answer to GET /keys/NAME."""

    key: _KeyNumbers | None = None

    def checked(self) -> PublicKey:
        """What it says.

        Raises:
            VaultError: something is missing, or a number is not base64url.
        """
        if self.key is None:
            raise _nil("key value")
        version = _version(self.key.kid, "key id")
        told = {name: getattr(self.key, name) for name in ("n", "e", "x", "y")}
        numbers = {name: _number(text, name) for name, text in told.items() if text is not None}
        return PublicKey(self.key.kty or "", self.key.crv or "", numbers, version)


class CertificateDocument(msgspec.Struct):
    """The answer to GET /certificates/NAME."""

    cer: bytes | None = None
    id: str | None = None

    def checked(self) -> LeafCertificate:
        """What it says.

        Raises:
            VaultError: something is missing.
        """
        if self.cer is None:
            raise _nil("certificate value")
        return LeafCertificate(self.cer, _version(self.id, "certificate id"))


class _ListedAttributes(msgspec.Struct):
    enabled: bool | None = None
    created: int | None = None


class _ListedItem(msgspec.Struct):
    id: str | None = None
    kid: str | None = None
    attributes: _ListedAttributes | None = None


class VersionsDocument(msgspec.Struct, rename="camel"):
    """The answer to GET /{secrets,keys,certificates}/NAME/versions: one page."""

    value: list[_ListedItem] | None = None
    next_link: str | None = None

    def checked(self) -> tuple[ListedVersion, ...]:
        """The versions of this page, in their order.

        Raises:
            VaultError: one has no id.
        """
        return tuple(_listed(item) for item in self.value or ())


def _listed(item: _ListedItem) -> ListedVersion:
    attributes = item.attributes or _ListedAttributes()
    version = _version(item.kid or item.id, "version id")
    return ListedVersion(version, attributes.enabled, attributes.created or 0)


def _version(identifier: str | None, what: str) -> str:
    version = (identifier or "").rstrip("/").rpartition("/")[2]
    # It becomes part of a URL, and of messages.
    if not (version.isascii() and version.replace("-", "").isalnum() and len(version) <= 127):
        raise _nil(what)
    return version


def _number(text: str, name: str) -> bytes:
    try:
        return urlsafe_b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4))
    except ValueError:
        raise VaultError(
            f"the number {name} of the key is not base64url",
            "The vault's answer is malformed; check that no proxy answers instead.",
        ) from None


def _nil(what: str) -> VaultError:
    return VaultError(f"{what} is nil", "The vault's answer lacks it; try again.")
