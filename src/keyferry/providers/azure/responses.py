"""What comes out of a vault: the documents of its API, and what they mean once checked. [pure]

Words such as `secret value is nil` are upstream's.

Source: docs/reference/upstream-azure-provider.md#key-vault-requests
Source: docs/reference/upstream-azure-provider.md#fetching-and-errors
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import msgspec

from keyferry.errors import VaultError
from keyferry.formats.base64url import decode_base64url

_MAX_TIME = 253_402_300_799
"""The last second of the year 9999."""

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Properties:
    """What a vault tells of an object beside its value; nothing here is secret.

    Attributes:
        content_type: what somebody said of the value, or ""; of a certificate that of the secret
            behind it; a key has none.
        tags: as somebody set them.
        expires_at: seconds since 1970, or None for an object that does not end.
        not_before: likewise, when it begins.
        updated_at: when somebody changed anything of it last, in seconds since 1970; None where the
            vault does not tell.
    """

    content_type: str = ""
    tags: Mapping[str, str] = field(default_factory=dict, hash=False)
    expires_at: int | None = None
    not_before: int | None = None
    updated_at: int | None = field(default=None, compare=False)


_NO_PROPERTIES = Properties()


@dataclass(frozen=True, slots=True)
class KeyVaultSecret:
    """One version of a secret.

    Attributes:
        value: as it is in the vault.
        version: its version id.
        backs_certificate: whether it is the secret behind a certificate: the vault names its key.
        properties: the rest.
    """

    value: str = field(repr=False)
    version: str
    backs_certificate: bool = False
    properties: Properties = _NO_PROPERTIES


@dataclass(frozen=True, slots=True)
class PublicKey:
    """The public half of one version of a key.

    Attributes:
        key_type: `kty`: RSA, RSA-HSM, EC, EC-HSM; others cannot be delivered.
        curve: `crv`, "" for RSA.
        numbers: n, e, x and y as big-endian bytes, those that the vault tells.
        version: its version id.
        properties: the rest.
    """

    key_type: str
    curve: str
    numbers: Mapping[str, bytes] = field(hash=False)
    version: str
    properties: Properties = _NO_PROPERTIES

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
        properties: the rest.
    """

    cer: bytes
    version: str
    properties: Properties = _NO_PROPERTIES


Content = KeyVaultSecret | PublicKey | LeafCertificate


@dataclass(frozen=True, slots=True)
class ListedVersion:
    """What the list of an object's versions says of one.

    Attributes:
        version: its id.
        enabled: None where the vault tells no attributes.
        created_at: seconds since 1970; 0 where the vault does not tell.
        properties: the rest; what a list tells of them needs no right to read values.
    """

    version: str
    enabled: bool | None
    created_at: int
    properties: Properties = _NO_PROPERTIES


class _Attributes(msgspec.Struct):
    enabled: bool | None = None
    created: int | None = None
    updated: int | None = None
    exp: int | None = None
    nbf: int | None = None


class _Document(msgspec.Struct, rename="camel"):
    """What the documents of all types share."""

    attributes: _Attributes | None = None
    tags: dict[str, str] | None = None
    content_type: str | None = None

    def properties(self) -> Properties:
        """What it says beside the value."""
        attributes = self.attributes or _Attributes()
        return Properties(
            self.content_type or "",
            self.tags or {},
            _valid_time(attributes.exp),
            _valid_time(attributes.nbf),
            attributes.updated,
        )


class SecretDocument(_Document, rename="camel"):
    """The answer to GET /secrets/NAME."""

    value: str | None = None
    id: str | None = None
    kid: str | None = None

    def checked(self) -> KeyVaultSecret:
        """What it says.

        Raises:
            VaultError: something is missing.
        """
        if self.value is None:
            raise _nil_error("secret value")
        version = _version_from_id(self.id, "secret id")
        return KeyVaultSecret(self.value, version, bool(self.kid), self.properties())


class _JsonWebKey(msgspec.Struct):
    kid: str | None = None
    kty: str | None = None
    crv: str | None = None
    n: str | None = None
    e: str | None = None
    x: str | None = None
    y: str | None = None


class KeyDocument(_Document):
    """The answer to GET /keys/NAME."""

    key: _JsonWebKey | None = None

    def checked(self) -> PublicKey:
        """What it says.

        Raises:
            VaultError: something is missing, or a number is not base64url.
        """
        if self.key is None:
            raise _nil_error("key value")
        version = _version_from_id(self.key.kid, "key id")
        told = {name: getattr(self.key, name) for name in ("n", "e", "x", "y")}
        numbers = {
            name: _decode_number(text, name) for name, text in told.items() if text is not None
        }
        kind, curve = self.key.kty or "", self.key.crv or ""
        return PublicKey(kind, curve, numbers, version, self.properties())


class _Policy(msgspec.Struct):
    secret_props: _Document | None = None


class CertificateDocument(_Document, rename="camel"):
    """The answer to GET /certificates/NAME."""

    cer: bytes | None = None
    id: str | None = None
    policy: _Policy | None = None

    def checked(self) -> LeafCertificate:
        """What it says.

        Raises:
            VaultError: something is missing.
        """
        if self.cer is None:
            raise _nil_error("certificate value")
        return LeafCertificate(
            self.cer, _version_from_id(self.id, "certificate id"), self.properties()
        )

    def properties(self) -> Properties:
        """As of any object, with what its policy says of the secret behind it."""
        props = self.policy.secret_props if self.policy else None
        return replace(super().properties(), content_type=(props and props.content_type) or "")


class _ListedItem(_Document, rename="camel"):
    id: str | None = None
    kid: str | None = None


class PageDocument(msgspec.Struct, rename="camel"):
    """The answer to GET /{secrets,keys,certificates}/NAME/versions: one page."""

    value: list[_ListedItem] | None = None
    next_link: str | None = None

    def checked(self) -> tuple[ListedVersion, ...]:
        """The versions of this page, in their order.

        Raises:
            VaultError: one has no id.
        """
        return tuple(_listed_version(item) for item in self.value or ())

    def last_updated(self) -> dict[str, int]:
        """Of a list of objects: when each was changed last, by name in lower case."""
        told: dict[str, int] = {}
        for item in self.value or ():
            identifier = (item.kid or item.id or "").rstrip("/")
            if item.attributes and item.attributes.updated is not None and item.attributes.enabled:
                told[identifier.rpartition("/")[2].lower()] = item.attributes.updated
        return told


def _listed_version(item: _ListedItem) -> ListedVersion:
    attributes = item.attributes or _Attributes()
    version = _version_from_id(item.kid or item.id, "version id")
    return ListedVersion(version, attributes.enabled, attributes.created or 0, item.properties())


def _valid_time(seconds: int | None) -> int | None:
    """A time that a calendar has; anything else is as good as none."""
    return seconds if seconds is not None and 0 <= seconds <= _MAX_TIME else None


def _version_from_id(identifier: str | None, field_name: str) -> str:
    version = (identifier or "").rstrip("/").rpartition("/")[2]
    # It becomes part of a URL, and of messages.
    if not (version.isascii() and version.replace("-", "").isalnum() and len(version) <= 127):
        raise _nil_error(field_name)
    return version


def _decode_number(text: str, name: str) -> bytes:
    try:
        return decode_base64url(text)
    except ValueError:
        raise VaultError(
            f"the number {name} of the key is not base64url",
            "The vault's answer is malformed; check that no proxy answers instead.",
        ) from None


def _nil_error(field_name: str) -> VaultError:
    return VaultError(f"{field_name} is nil", "The vault's answer lacks it; try again.")
