"""Keys and certificates in the Key Vault REST API 7.4."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, assert_never

from keyferry.errors import KeyferryError, ObjectUnusableError, RequestInvalidError
from keyferry.records import replace
from keyferry_devvault.crypto.key_material import generate_key, key_pem, private_key_from_jwk
from keyferry_devvault.http_types import HttpError, Request, Response, vault_error_response
from keyferry_devvault.keyvault.object_bodies import (
    CertificateCreateBody,
    CertificateImportBody,
    ChangeBody,
    KeyCreateBody,
    KeyImportBody,
    Policy,
    deleted_object_body,
    object_body,
    object_item,
    operation_body,
    parse_body,
    policy_body,
)
from keyferry_devvault.keyvault.secret_bodies import paginate
from keyferry_devvault.model import SECRET_NAME, DeletedObject, ObjectKind, Permission
from keyferry_devvault.storage.certificates import CertificateSpec, CertificateStore

if TYPE_CHECKING:
    from keyferry_devvault.keyvault.vault import Caller
    from keyferry_devvault.model import VaultObjectVersion
    from keyferry_devvault.storage.objects import ObjectTable

DEVELOPMENT_CA_ISSUER = "DevelopmentCA"
"""The issuer in a policy that means the development CA; any other name means self-signed."""


class ObjectsApi:
    """Serves `/keys` or `/certificates`, and the deleted objects, of all vaults.

    Args:
        table: the keys or the certificates.
        certificates: creates and deletes certificates with their keys and secrets.
    """

    def __init__(self, table: ObjectTable, certificates: CertificateStore) -> None:
        self._table = table
        self._certificates = certificates
        self._kind = table.kind

    def handle(self, request: Request, caller: Caller) -> Response:
        """Handle one request of an authenticated caller.

        Raises:
            HttpError: the error response.
        """
        collection, *rest = request.path.strip("/").split("/")
        if rest and not SECRET_NAME.fullmatch(rest[0]):
            problem = f"The request URI contains an invalid name: {rest[0][:130]}"
            raise HttpError(vault_error_response(400, "BadParameter", problem))
        if collection.startswith("deleted"):
            return self._deleted(request, caller, rest)
        if request.method == "GET":
            return self._read(request, caller, rest)
        try:
            return self._write(request, caller, rest)
        except (RequestInvalidError, ObjectUnusableError) as error:
            raise _http_error(error) from None

    def _read(self, request: Request, caller: Caller, rest: list[str]) -> Response:
        match rest:
            case []:
                caller.require(Permission.LIST, self._kind)
                items = [object_item(request.host, row) for row in self._table.latest(caller.vault)]
                return Response(200, paginate(request, items))
            case [name, "versions"]:
                caller.require(Permission.LIST, self._kind)
                rows = self._table.versions(caller.vault, name)
                self._require_row(rows[0] if rows else None, name)
                # By id, not by age: the real vault promises no order either.
                rows = tuple(sorted(rows, key=lambda row: row.version))
                items = [object_item(request.host, row, versioned=True) for row in rows]
                return Response(200, paginate(request, items))
            case [name, "policy"] if self._kind is ObjectKind.CERTIFICATE:
                return Response(200, policy_body(request.host, self._get(caller, name)))
            case [name, "pending"] if self._kind is ObjectKind.CERTIFICATE:
                return Response(200, operation_body(request.host, self._get(caller, name)))
            case [name, *version] if len(version) < 2:
                return Response(200, object_body(request.host, self._get(caller, name, *version)))
            case _:
                raise _not_allowed()

    def _get(self, caller: Caller, name: str, version: str | None = None) -> VaultObjectVersion:
        caller.require(Permission.GET, self._kind)
        row = self._require_row(self._table.find(caller.vault, name, version or None), name)
        if not row.enabled:
            what = self._kind.singular
            problem = f"Operation get is not allowed on a disabled {what}."
            disabled = vault_error_response(403, "Forbidden", problem, f"{what.title()}Disabled")
            noun = "key" if self._kind is ObjectKind.KEY else "cert"
            which = ("--version", row.version) if version else ()
            command = caller.hints.line(noun, "enable", caller.vault, name, *which)
            raise HttpError(replace(disabled, note=f"enable it: {command}"))
        return row

    def _write(self, request: Request, caller: Caller, rest: list[str]) -> Response:
        match (request.method, *rest):
            case ("PATCH", name, *version) if len(version) < 2:
                caller.require(Permission.SET, self._kind)
                row = self._update(request, caller, name, "".join(version) or None)
                return Response(200, object_body(request.host, row))
            case ("DELETE", name):
                caller.require(Permission.DELETE, self._kind)
                return Response(200, deleted_object_body(request.host, self._delete(caller, name)))
            case (_, name, *action):
                caller.require(Permission.SET, self._kind)
                return self._create_or_import(
                    request, caller.vault, name, (request.method, *action)
                )
            case _:
                raise _not_allowed()

    def _create_or_import(
        self, request: Request, vault: str, name: str, action: tuple[str, ...]
    ) -> Response:
        match (self._kind, *action):
            case (ObjectKind.KEY, "POST", "create"):
                body = parse_body(request.body, KeyCreateBody)
                key = generate_key(body.kty, size=body.key_size, curve=body.crv)
                document = {"pem": key_pem(key), "kty": body.kty}
                row = self._put_key(vault, name, document, body)
                return Response(200, object_body(request.host, row))
            case (ObjectKind.KEY, "PUT"):
                imported = parse_body(request.body, KeyImportBody)
                jwk = imported.jwk()
                document = {"pem": key_pem(private_key_from_jwk(jwk)), "kty": jwk["kty"]}
                row = self._put_key(vault, name, document, imported)
                return Response(200, object_body(request.host, row))
            case (ObjectKind.CERTIFICATE, "POST", "create"):
                created = parse_body(request.body, CertificateCreateBody)
                row = self._certificates.create(vault, name, _certificate_spec(created.policy))
                self._table.update_document(vault, name, row.version, created.document_fields())
                return Response(202, operation_body(request.host, row))
            case (ObjectKind.CERTIFICATE, "POST", "import"):
                brought = parse_body(request.body, CertificateImportBody)
                row = self._certificates.import_(
                    vault,
                    name,
                    brought.value.encode(),
                    password=brought.pwd,
                    content_type=brought.policy.secret_props.contentType,
                    enabled=brought.enabled,
                )
                row = self._table.update_document(
                    vault, name, row.version, brought.document_fields()
                )
                return Response(200, object_body(request.host, row))
            case _:
                raise _not_allowed()

    def _put_key(
        self, vault: str, name: str, document: dict[str, str], body: ChangeBody
    ) -> VaultObjectVersion:
        version = secrets.token_hex(16)
        fields = document | body.document_fields()
        return self._table.put(vault, name, version, fields, enabled=body.enabled)

    def _update(
        self, request: Request, caller: Caller, name: str, version: str | None
    ) -> VaultObjectVersion:
        change = parse_body(request.body, ChangeBody)
        row = self._require_row(self._table.find(caller.vault, name, version), name)
        if change.attributes.enabled is not None:
            store = self._table if self._kind is ObjectKind.KEY else self._certificates
            row = store.set_enabled(caller.vault, name, row.version, enabled=change.enabled)
        fields = change.document_fields()
        return (
            self._table.update_document(caller.vault, name, row.version, fields) if fields else row
        )

    def _delete(self, caller: Caller, name: str) -> DeletedObject:
        self._require_row(self._table.find(caller.vault, name), name)
        match self._kind:
            case ObjectKind.KEY:
                return self._table.delete(caller.vault, name)
            case ObjectKind.CERTIFICATE:
                self._certificates.delete(caller.vault, name)
                return self._require_deleted(caller, name)
            case _:
                assert_never(self._kind)

    def _deleted(self, request: Request, caller: Caller, rest: list[str]) -> Response:
        store = self._table if self._kind is ObjectKind.KEY else self._certificates
        match (request.method, *rest):
            case ("GET",):
                caller.require(Permission.LIST, self._kind)
                rows = self._table.deleted(caller.vault)
                return Response(
                    200, paginate(request, [deleted_object_body(request.host, row) for row in rows])
                )
            case ("GET", name):
                caller.require(Permission.GET, self._kind)
                return Response(
                    200, deleted_object_body(request.host, self._require_deleted(caller, name))
                )
            case ("DELETE", name):
                caller.require(Permission.PURGE, self._kind)
                self._require_deleted(caller, name)
                store.purge(caller.vault, name)
                return Response(204)
            case ("POST", name, "recover"):
                caller.require(Permission.RECOVER, self._kind)
                row = self._require_deleted(caller, name).latest
                store.recover(caller.vault, name)
                return Response(200, object_body(request.host, row))
            case _:
                raise _not_allowed()

    def _require_deleted(self, caller: Caller, name: str) -> DeletedObject:
        row = self._table.find_deleted(caller.vault, name)
        if row is None:
            raise self._not_found(f"Deleted {self._kind.singular} not found: {name}")
        return row

    def _require_row(self, row: VaultObjectVersion | None, name: str) -> VaultObjectVersion:
        if row is None:
            raise self._not_found(
                f"A {self._kind.singular} with (name/id) {name} was not found in this key vault."
            )
        return row

    def _not_found(self, message: str) -> HttpError:
        return HttpError(
            vault_error_response(404, f"{self._kind.singular.title()}NotFound", message)
        )


def _certificate_spec(policy: Policy) -> CertificateSpec:
    common_name = policy.x509_props.subject.strip().removeprefix("CN=").partition(",")[0]
    return CertificateSpec(
        common_name=common_name,
        hosts=policy.x509_props.sans.dns_names,
        kind=policy.key_props.kty,
        size=policy.key_props.key_size,
        curve=policy.key_props.crv,
        content_type=policy.secret_props.contentType or "application/x-pkcs12",
        signed_by_ca=policy.issuer.name == DEVELOPMENT_CA_ISSUER,
    )


def _http_error(error: KeyferryError) -> HttpError:
    if isinstance(error, ObjectUnusableError):
        inner = "ObjectIsDeletedButRecoverable"
        return HttpError(vault_error_response(409, "Conflict", error.problem, inner))
    return HttpError(vault_error_response(400, "BadParameter", error.problem))


def _not_allowed() -> HttpError:
    return HttpError(vault_error_response(405, "BadParameter", "The method is not allowed here."))
