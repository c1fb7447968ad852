"""Request and response bodies for keys and certificates (Key Vault REST API 7.4). [pure]"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, TypeVar, assert_never

import msgspec
from cryptography import x509

from keyferry_devvault.crypto.certificate_material import thumbprint
from keyferry_devvault.crypto.key_material import parse_key, public_jwk
from keyferry_devvault.http_types import HttpError, vault_error_response
from keyferry_devvault.keyvault.secret_bodies import RECOVERY, Json
from keyferry_devvault.model import ObjectKind

if TYPE_CHECKING:
    from keyferry_devvault.model import DeletedObject, VaultObjectVersion


T = TypeVar("T")


class _Attributes(msgspec.Struct, frozen=True):
    enabled: bool | None = None
    exp: int | None = None
    nbf: int | None = None


class ChangeBody(msgspec.Struct, frozen=True):
    """The body of a `PATCH`, and the common part of the bodies below."""

    attributes: _Attributes = _Attributes()
    tags: dict[str, str] | None = None

    def document_fields(self) -> dict[str, str]:
        """Return the attributes and tags as they are stored in a document."""
        times = {"exp": self.attributes.exp, "nbf": self.attributes.nbf}
        fields = {name: str(time) for name, time in times.items() if time is not None}
        return fields if self.tags is None else fields | {"tags": _encode_tags(self.tags)}

    @property
    def enabled(self) -> bool:
        """Return whether the version is enabled, which is the default."""
        return self.attributes.enabled is not False


class KeyCreateBody(ChangeBody, frozen=True, kw_only=True):
    """The body of POST /keys/NAME/create."""

    kty: str
    key_size: int = 2048
    crv: str = "P-256"


class KeyImportBody(ChangeBody, frozen=True, kw_only=True):
    """The body of PUT /keys/NAME."""

    key: dict[str, str | list[str]]

    def jwk(self) -> dict[str, str]:
        """Return the string members of the key."""
        return {name: text for name, text in self.key.items() if isinstance(text, str)}


class _SecretProperties(msgspec.Struct, frozen=True):
    contentType: str | None = None  # noqa: N815 - a name of the wire


class _KeyProperties(msgspec.Struct, frozen=True):
    kty: str = "RSA"
    key_size: int = 2048
    crv: str = "P-256"


class _AlternativeNames(msgspec.Struct, frozen=True):
    dns_names: list[str] = msgspec.field(default_factory=list)


class _CertificateProperties(msgspec.Struct, frozen=True):
    subject: str = ""
    sans: _AlternativeNames = _AlternativeNames()


class _Issuer(msgspec.Struct, frozen=True):
    name: str = "Self"


class Policy(msgspec.Struct, frozen=True):
    """The policy of a certificate; other parts of a policy are ignored."""

    secret_props: _SecretProperties = _SecretProperties()
    key_props: _KeyProperties = _KeyProperties()
    x509_props: _CertificateProperties = _CertificateProperties()
    issuer: _Issuer = _Issuer()


class CertificateCreateBody(ChangeBody, frozen=True, kw_only=True):
    """The body of POST /certificates/NAME/create."""

    policy: Policy = Policy()


class CertificateImportBody(ChangeBody, frozen=True, kw_only=True):
    """The body of POST /certificates/NAME/import."""

    value: str
    pwd: str | None = None
    policy: Policy = Policy()


def object_body(host: str, row: VaultObjectVersion) -> Json:
    """Return a KeyBundle or CertificateBundle."""
    match row.kind:
        case ObjectKind.KEY:
            key = parse_key(row.document["pem"].encode())
            jwk = {"kid": _id(host, row)} | public_jwk(key, row.document["kty"])
            return (
                {"key": jwk, "attributes": _attributes(row)}
                | _tags_field(row)
                | _managed_field(row)
            )
        case ObjectKind.CERTIFICATE:
            return certificate_item(host, row, versioned=True) | {
                "kid": f"https://{host}/keys/{row.name}/{row.version}",
                "sid": f"https://{host}/secrets/{row.name}/{row.version}",
                "cer": row.document["cer"],
                "policy": policy_body(host, row),
            }
        case _:
            assert_never(row.kind)


def object_item(host: str, row: VaultObjectVersion, *, versioned: bool = False) -> Json:
    """Return the list item of a key or certificate."""
    match row.kind:
        case ObjectKind.KEY:
            kid = _id(host, row, versioned=versioned)
            return (
                {"kid": kid, "attributes": _attributes(row)}
                | _tags_field(row)
                | _managed_field(row)
            )
        case ObjectKind.CERTIFICATE:
            return certificate_item(host, row, versioned=versioned)
        case _:
            assert_never(row.kind)


def certificate_item(host: str, row: VaultObjectVersion, *, versioned: bool) -> Json:
    """Return a CertificateItem."""
    certificate = x509.load_der_x509_certificate(base64.b64decode(row.document["cer"]))
    times = {
        "nbf": int(certificate.not_valid_before_utc.timestamp()),
        "exp": int(certificate.not_valid_after_utc.timestamp()),
    }
    return {
        "id": _id(host, row, versioned=versioned),
        "x5t": thumbprint(certificate),
        "attributes": _attributes(row) | times,
    } | _tags_field(row)


def policy_body(host: str, row: VaultObjectVersion) -> Json:
    """Return the known parts of the policy of a certificate."""
    return {
        "id": f"https://{host}/certificates/{row.name}/policy",
        "key_props": {"exportable": True, "kty": row.document["kty"], "reuse_key": False},
        "secret_props": {"contentType": row.document["content_type"]},
        "issuer": {"name": "Unknown"},
    }


def operation_body(host: str, row: VaultObjectVersion) -> Json:
    """Return the operation that created a certificate, which is always completed."""
    return {
        "id": f"https://{host}/certificates/{row.name}/pending",
        "issuer": {"name": "Self"},
        "status": "completed",
        "target": f"https://{host}/certificates/{row.name}",
        "request_id": row.version,
        "cancellation_requested": False,
    }


def deleted_object_body(host: str, row: DeletedObject) -> Json:
    """Return a deleted KeyBundle or CertificateBundle."""
    return object_body(host, row.latest) | {
        "recoveryId": f"https://{host}/deleted{row.latest.kind}/{row.latest.name}",
        "deletedDate": row.deleted_at,
        "scheduledPurgeDate": row.purge_at,
    }


def parse_body(body: bytes, body_type: type[T]) -> T:
    """Decode the body of a request.

    Raises:
        HttpError: the body is not valid JSON of this type.
    """
    try:
        return msgspec.json.decode(body or b"{}", type=body_type)
    except msgspec.DecodeError:
        # The text of this error can quote the body.
        problem = "The request body is not the JSON that was expected."
        raise HttpError(vault_error_response(400, "BadParameter", problem)) from None


def _id(host: str, row: VaultObjectVersion, *, versioned: bool = True) -> str:
    return f"https://{host}/{row.kind}/{row.name}" + (f"/{row.version}" if versioned else "")


def _attributes(row: VaultObjectVersion) -> Json:
    times = {"created": row.created, "updated": row.updated}
    times |= {name: int(row.document[name]) for name in ("exp", "nbf") if name in row.document}
    return {"enabled": row.enabled} | times | RECOVERY


def _tags_field(row: VaultObjectVersion) -> Json:
    tags = row.document.get("tags")
    return {} if tags is None else {"tags": msgspec.json.decode(tags, type=dict[str, str])}


def _encode_tags(tags: dict[str, str]) -> str:
    return msgspec.json.encode(tags).decode()


def _managed_field(row: VaultObjectVersion) -> Json:
    return {"managed": True} if "managed" in row.document else {}
