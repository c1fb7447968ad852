"""Parses and validates the response documents of Key Vault. [pure]

Messages such as `secret value is nil` are upstream's.

Source: docs/reference/upstream-azure-provider.md#key-vault-requests
Source: docs/reference/upstream-azure-provider.md#fetching-and-errors
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from keyferry.errors import VaultError
from keyferry.formats.base64url import decode_base64url
from keyferry.records import replace

_MAX_TIME = 253_402_300_799
"""The last second of the year 9999."""
_INCOMPLETE_REMEDY = (
    "The response of the vault is incomplete; check that no proxy responds in place of the vault."
)

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Properties:
    """The properties of an object apart from its value; none is secret.

    Attributes:
        content_type: the content type of the value, or ""; for a certificate, the one of the secret
            behind it; a key has none.
        tags: the tags.
        expires_at: when it expires, in seconds since 1970; None: never.
        not_before: when it becomes valid, in seconds since 1970; None: always.
        updated_at: the time of the last update, in seconds since 1970; None if the vault does not
            send it.
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
        value: the value.
        version: its version ID.
        backs_certificate: whether it is the secret behind a certificate; the vault then sends the
            ID of its key.
        properties: the other properties.
    """

    value: str = field(repr=False)
    version: str
    backs_certificate: bool = False
    properties: Properties = _NO_PROPERTIES


@dataclass(frozen=True, slots=True)
class PublicKey:
    """The public key of one version of a key.

    Attributes:
        key_type: `kty`: RSA, RSA-HSM, EC or EC-HSM; others cannot be delivered.
        curve: `crv`; "" for RSA.
        numbers: n, e, x and y as big-endian bytes, as far as the vault sends them.
        version: its version ID.
        properties: the other properties.
    """

    key_type: str
    curve: str
    numbers: Mapping[str, bytes] = field(hash=False)
    version: str
    properties: Properties = _NO_PROPERTIES

    def number(self, name: str) -> bytes:
        """Return the number `name`.

        Raises:
            VaultError: the vault did not send it.
        """
        if name not in self.numbers:
            raise VaultError(f"the key has no number {name}", _INCOMPLETE_REMEDY)
        return self.numbers[name]


class LeafCertificate(Struct, frozen=True):
    """One version of a certificate, without its chain and its key.

    Attributes:
        cer: the unparsed DER.
        version: its version ID.
        properties: the other properties.
    """

    cer: bytes
    version: str
    properties: Properties = _NO_PROPERTIES


Content = KeyVaultSecret | PublicKey | LeafCertificate


class ListedVersion(Struct, frozen=True):
    """One version in the list of an object's versions.

    Attributes:
        version: its ID.
        enabled: whether it is enabled; None if the vault sends no attributes.
        created_at: when it was created, in seconds since 1970; 0 if the vault does not send it.
        properties: the other properties; reading them in a list requires no permission for values.
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
    """The fields that the documents of all types share."""

    attributes: _Attributes | None = None
    tags: dict[str, str] | None = None
    content_type: str | None = None

    def properties(self) -> Properties:
        """Return the properties apart from the value."""
        attributes = self.attributes or _Attributes()
        return Properties(
            self.content_type or "",
            self.tags or {},
            _valid_time(attributes.exp),
            _valid_time(attributes.nbf),
            attributes.updated,
        )


class SecretDocument(_Document, rename="camel"):
    """The response to GET /secrets/NAME."""

    value: str | None = None
    id: str | None = None
    kid: str | None = None

    def checked(self) -> KeyVaultSecret:
        """Return the validated secret.

        Raises:
            VaultError: the value or the version is missing.
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
    """The response to GET /keys/NAME."""

    key: _JsonWebKey | None = None

    def checked(self) -> PublicKey:
        """Return the validated public key.

        Raises:
            VaultError: the key or the version is missing, or a number is not base64url.
        """
        if self.key is None:
            raise _nil_error("key value")
        version = _version_from_id(self.key.kid, "key id")
        texts = {name: getattr(self.key, name) for name in ("n", "e", "x", "y")}
        numbers = {
            name: _decode_number(text, name) for name, text in texts.items() if text is not None
        }
        kind, curve = self.key.kty or "", self.key.crv or ""
        return PublicKey(kind, curve, numbers, version, self.properties())


class _Policy(msgspec.Struct):
    secret_props: _Document | None = None


class CertificateDocument(_Document, rename="camel"):
    """The response to GET /certificates/NAME."""

    cer: bytes | None = None
    id: str | None = None
    policy: _Policy | None = None

    def checked(self) -> LeafCertificate:
        """Return the validated certificate.

        Raises:
            VaultError: the certificate or the version is missing.
        """
        if self.cer is None:
            raise _nil_error("certificate value")
        return LeafCertificate(
            self.cer, _version_from_id(self.id, "certificate id"), self.properties()
        )

    def properties(self) -> Properties:
        """Return the properties, with the content type of the secret behind the certificate."""
        props = self.policy.secret_props if self.policy else None
        return replace(super().properties(), content_type=(props and props.content_type) or "")


class ListedObject(Struct, frozen=True):
    """An object in a list, without its value.

    Attributes:
        name: of the object.
        enabled: whether its current version is enabled.
        managed: whether it is the secret or the key of a certificate.
        properties: as for the object.
    """

    name: str
    enabled: bool
    managed: bool
    properties: Properties

    def is_usable(self, now: float) -> bool:
        """Return whether it is enabled and valid at a time, in seconds since 1970."""
        begin, end = self.properties.not_before, self.properties.expires_at
        return self.enabled and (begin is None or begin <= now) and (end is None or now < end)


class _ListedItem(_Document, rename="camel"):
    id: str | None = None
    kid: str | None = None
    managed: bool | None = None


class PageDocument(msgspec.Struct, rename="camel"):
    """One page of the response to GET /{secrets,keys,certificates}[/NAME/versions]."""

    value: list[_ListedItem] | None = None
    next_link: str | None = None

    def checked(self) -> tuple[ListedVersion, ...]:
        """Return the versions of this page, in its order.

        Raises:
            VaultError: a version has no ID.
        """
        return tuple(_listed_version(item) for item in self.value or ())

    def objects(self) -> tuple[ListedObject, ...]:
        """Return the objects of this page, in its order.

        Raises:
            VaultError: an object has no ID.
        """
        return tuple(
            ListedObject(
                _version_from_id(item.kid or item.id, "id of a listed object"),
                bool(item.attributes and item.attributes.enabled),
                bool(item.managed),
                item.properties(),
            )
            for item in self.value or ()
        )

    def last_updated(self) -> dict[str, int]:
        """Return the last update of each enabled object of a list of objects.

        Returns:
            Seconds since 1970 by the vault's clock, by name in lower case.
        """
        updated: dict[str, int] = {}
        for item in self.value or ():
            identifier = (item.kid or item.id or "").rstrip("/")
            if item.attributes and item.attributes.updated is not None and item.attributes.enabled:
                updated[identifier.rpartition("/")[2].lower()] = item.attributes.updated
        return updated


def _listed_version(item: _ListedItem) -> ListedVersion:
    attributes = item.attributes or _Attributes()
    version = _version_from_id(item.kid or item.id, "version id")
    return ListedVersion(version, attributes.enabled, attributes.created or 0, item.properties())


def _valid_time(seconds: int | None) -> int | None:
    """Return the time if a calendar can represent it, else None."""
    return seconds if seconds is not None and 0 <= seconds <= _MAX_TIME else None


def _version_from_id(identifier: str | None, field_name: str) -> str:
    version = (identifier or "").rstrip("/").rpartition("/")[2]
    # Checked, because it becomes part of a URL and of messages.
    if not (version.isascii() and version.replace("-", "").isalnum() and len(version) <= 127):
        raise _nil_error(field_name)
    return version


def _decode_number(text: str, name: str) -> bytes:
    try:
        return decode_base64url(text)
    except ValueError:
        raise VaultError(
            f"the number {name} of the key is not base64url",
            "Check that no proxy responds in place of the vault.",
        ) from None


def _nil_error(field_name: str) -> VaultError:
    return VaultError(f"{field_name} is nil", _INCOMPLETE_REMEDY)
