"""Keys and certificates, as the Key Vault REST API 7.4 serves them."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, assert_never

from keyferry.devvault.certificate_store import CertificateStore, CertificateWish
from keyferry.devvault.exchange import Answer, Call, Refused, vault_error
from keyferry.devvault.key_material import key_pem, new_key, private_key
from keyferry.devvault.model import SECRET_NAME, DeletedObject, ObjectKind, Permission
from keyferry.devvault.object_bodies import (
    CertificateCreateBody,
    CertificateImportBody,
    ChangeBody,
    KeyCreateBody,
    KeyImportBody,
    Policy,
    deleted_body,
    object_body,
    object_item,
    operation_body,
    parse_body,
    policy_body,
)
from keyferry.devvault.secret_bodies import page
from keyferry.errors import KeyferryError, ObjectUnusableError, RequestInvalidError

if TYPE_CHECKING:
    from keyferry.devvault.model import ObjectVersion
    from keyferry.devvault.object_table import ObjectTable
    from keyferry.devvault.vault import Caller

AUTHORITY_ISSUER = "DevelopmentCA"
"""The issuer in a policy that means the development CA; any other name means self-signed."""


class VaultObjects:
    """Answers for `/keys` or `/certificates`, and for the deleted ones, of every vault.

    Args:
        table: the objects of that kind.
        certificates: makes and deletes certificates together with what belongs to them.
    """

    def __init__(self, table: ObjectTable, certificates: CertificateStore) -> None:
        self._table = table
        self._certificates = certificates
        self._kind = table.kind

    def answer(self, call: Call, caller: Caller) -> Answer:
        """Handle one request of an authenticated caller.

        Raises:
            Refused: with the answer that says why.
        """
        collection, *rest = call.path.strip("/").split("/")
        if rest and not SECRET_NAME.fullmatch(rest[0]):
            problem = f"The request URI contains an invalid name: {rest[0][:130]}"
            raise Refused(vault_error(400, "BadParameter", problem))
        if collection.startswith("deleted"):
            return self._deleted(call, caller, rest)
        if call.method == "GET":
            return self._read(call, caller, rest)
        try:
            return self._write(call, caller, rest)
        except (RequestInvalidError, ObjectUnusableError) as error:
            raise _refused(error) from None

    def _read(self, call: Call, caller: Caller, rest: list[str]) -> Answer:
        match rest:
            case []:
                caller.need(Permission.LIST, self._kind)
                items = [object_item(call.host, row) for row in self._table.latest(caller.vault)]
                return Answer(200, page(call, items))
            case [name, "versions"]:
                caller.need(Permission.LIST, self._kind)
                rows = self._table.versions(caller.vault, name)
                self._found(rows[0] if rows else None, name)
                # By id, not by age: the real vault promises no order either.
                rows = tuple(sorted(rows, key=lambda row: row.version))
                items = [object_item(call.host, row, versioned=True) for row in rows]
                return Answer(200, page(call, items))
            case [name, "policy"] if self._kind is ObjectKind.CERTIFICATE:
                return Answer(200, policy_body(call.host, self._get(caller, name)))
            case [name, "pending"] if self._kind is ObjectKind.CERTIFICATE:
                return Answer(200, operation_body(call.host, self._get(caller, name)))
            case [name, *version] if len(version) < 2:
                return Answer(200, object_body(call.host, self._get(caller, name, *version)))
            case _:
                raise _not_allowed()

    def _get(self, caller: Caller, name: str, version: str | None = None) -> ObjectVersion:
        caller.need(Permission.GET, self._kind)
        row = self._found(self._table.find(caller.vault, name, version or None), name)
        if not row.enabled:
            what = self._kind.singular
            problem = f"Operation get is not allowed on a disabled {what}."
            raise Refused(vault_error(403, "Forbidden", problem, f"{what.title()}Disabled"))
        return row

    def _write(self, call: Call, caller: Caller, rest: list[str]) -> Answer:
        match (call.method, *rest):
            case ("PATCH", name, *version) if len(version) < 2:
                caller.need(Permission.SET, self._kind)
                row = self._change(call, caller, name, "".join(version) or None)
                return Answer(200, object_body(call.host, row))
            case ("DELETE", name):
                caller.need(Permission.DELETE, self._kind)
                return Answer(200, deleted_body(call.host, self._delete(caller, name)))
            case (_, name, *action):
                caller.need(Permission.SET, self._kind)
                return self._make(call, caller.vault, name, (call.method, *action))
            case _:
                raise _not_allowed()

    def _make(self, call: Call, vault: str, name: str, action: tuple[str, ...]) -> Answer:
        match (self._kind, *action):
            case (ObjectKind.KEY, "POST", "create"):
                asked = parse_body(call.body, KeyCreateBody)
                key = new_key(asked.kty, size=asked.key_size, curve=asked.crv)
                document = {"pem": key_pem(key), "kty": asked.kty}
                row = self._put_key(vault, name, document, asked)
                return Answer(200, object_body(call.host, row))
            case (ObjectKind.KEY, "PUT"):
                given = parse_body(call.body, KeyImportBody)
                jwk = given.jwk()
                document = {"pem": key_pem(private_key(jwk)), "kty": jwk["kty"]}
                row = self._put_key(vault, name, document, given)
                return Answer(200, object_body(call.host, row))
            case (ObjectKind.CERTIFICATE, "POST", "create"):
                wanted = parse_body(call.body, CertificateCreateBody)
                row = self._certificates.create(vault, name, _wish(wanted.policy))
                self._table.describe(vault, name, row.version, wanted.described())
                return Answer(202, operation_body(call.host, row))
            case (ObjectKind.CERTIFICATE, "POST", "import"):
                brought = parse_body(call.body, CertificateImportBody)
                row = self._certificates.import_(
                    vault,
                    name,
                    brought.value.encode(),
                    password=brought.pwd,
                    content_type=brought.policy.secret_props.contentType,
                    enabled=brought.enabled,
                )
                row = self._table.describe(vault, name, row.version, brought.described())
                return Answer(200, object_body(call.host, row))
            case _:
                raise _not_allowed()

    def _put_key(
        self, vault: str, name: str, document: dict[str, str], body: ChangeBody
    ) -> ObjectVersion:
        version = secrets.token_hex(16)
        kept = document | body.described()
        return self._table.put(vault, name, version, kept, enabled=body.enabled)

    def _change(self, call: Call, caller: Caller, name: str, version: str | None) -> ObjectVersion:
        wanted = parse_body(call.body, ChangeBody)
        row = self._found(self._table.find(caller.vault, name, version), name)
        if wanted.attributes.enabled is not None:
            store = self._table if self._kind is ObjectKind.KEY else self._certificates
            row = store.enable(caller.vault, name, row.version, enabled=wanted.enabled)
        said = wanted.described()
        return self._table.describe(caller.vault, name, row.version, said) if said else row

    def _delete(self, caller: Caller, name: str) -> DeletedObject:
        self._found(self._table.find(caller.vault, name), name)
        match self._kind:
            case ObjectKind.KEY:
                return self._table.delete(caller.vault, name)
            case ObjectKind.CERTIFICATE:
                self._certificates.delete(caller.vault, name)
                return self._found_deleted(caller, name)
            case _:
                assert_never(self._kind)

    def _deleted(self, call: Call, caller: Caller, rest: list[str]) -> Answer:
        store = self._table if self._kind is ObjectKind.KEY else self._certificates
        match (call.method, *rest):
            case ("GET",):
                caller.need(Permission.LIST, self._kind)
                rows = self._table.deleted(caller.vault)
                return Answer(200, page(call, [deleted_body(call.host, row) for row in rows]))
            case ("GET", name):
                caller.need(Permission.GET, self._kind)
                return Answer(200, deleted_body(call.host, self._found_deleted(caller, name)))
            case ("DELETE", name):
                caller.need(Permission.PURGE, self._kind)
                self._found_deleted(caller, name)
                store.purge(caller.vault, name)
                return Answer(204)
            case ("POST", name, "recover"):
                caller.need(Permission.RECOVER, self._kind)
                row = self._found_deleted(caller, name).latest
                store.recover(caller.vault, name)
                return Answer(200, object_body(call.host, row))
            case _:
                raise _not_allowed()

    def _found_deleted(self, caller: Caller, name: str) -> DeletedObject:
        row = self._table.find_deleted(caller.vault, name)
        if row is None:
            raise self._not_found(f"Deleted {self._kind.singular} not found: {name}")
        return row

    def _found(self, row: ObjectVersion | None, name: str) -> ObjectVersion:
        if row is None:
            raise self._not_found(
                f"A {self._kind.singular} with (name/id) {name} was not found in this key vault."
            )
        return row

    def _not_found(self, message: str) -> Refused:
        return Refused(vault_error(404, f"{self._kind.singular.title()}NotFound", message))


def _wish(policy: Policy) -> CertificateWish:
    common_name = policy.x509_props.subject.strip().removeprefix("CN=").partition(",")[0]
    return CertificateWish(
        common_name=common_name,
        hosts=policy.x509_props.sans.dns_names,
        kind=policy.key_props.kty,
        size=policy.key_props.key_size,
        curve=policy.key_props.crv,
        content_type=policy.secret_props.contentType or "application/x-pkcs12",
        by_authority=policy.issuer.name == AUTHORITY_ISSUER,
    )


def _refused(error: KeyferryError) -> Refused:
    if isinstance(error, ObjectUnusableError):
        inner = "ObjectIsDeletedButRecoverable"
        return Refused(vault_error(409, "Conflict", error.problem, inner))
    return Refused(vault_error(400, "BadParameter", error.problem))


def _not_allowed() -> Refused:
    return Refused(vault_error(405, "BadParameter", "The method is not allowed here."))
