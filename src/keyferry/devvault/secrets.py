"""Secrets, as the Key Vault REST API 7.4 serves them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.devvault.exchange import Answer, Call, Refused, vault_error
from keyferry.devvault.model import (
    MAX_VALUE_BYTES,
    SECRET_NAME,
    DeletedSecret,
    Permission,
    SecretAttributes,
    SecretVersion,
)
from keyferry.devvault.secret_bodies import (
    deleted_body,
    page,
    parse_patch,
    parse_set,
    secret_body,
    secret_item,
)

if TYPE_CHECKING:
    from keyferry.devvault.secret_table import SecretTable
    from keyferry.devvault.vault import Caller


class Secrets:
    """Answers for `/secrets` and `/deletedsecrets` of every vault."""

    def __init__(self, table: SecretTable) -> None:
        self._table = table

    def answer(self, call: Call, caller: Caller) -> Answer:  # noqa: PLR0911 - a routing table
        """Handle one request of an authenticated caller.

        Raises:
            Refused: with the answer that says why.
        """
        match (call.method, *call.path.strip("/").split("/")):
            case ("GET", "secrets"):
                return self._list(call, caller)
            case ("GET", "secrets", name, "versions"):
                return self._versions(call, caller, _name(name))
            case ("GET", "secrets", name, *version) if len(version) < 2:
                return self._get(call, caller, _name(name), *version)
            case ("PUT", "secrets", name):
                return self._set(call, caller, _name(name))
            case ("PATCH", "secrets", name, *version) if len(version) < 2:
                return self._update(call, caller, _name(name), *version)
            case ("DELETE", "secrets", name):
                return self._delete(call, caller, _name(name))
            case (_, "deletedsecrets", *rest):
                return self._deleted(call, caller, rest)
            case _:
                raise Refused(vault_error(405, "BadParameter", "The method is not allowed here."))

    def _get(self, call: Call, caller: Caller, name: str, version: str | None = None) -> Answer:
        caller.need(Permission.GET)
        row = self._found(self._table.find(caller.vault, name, version), name, version)
        if not row.enabled:
            raise Refused(
                vault_error(
                    403,
                    "Forbidden",
                    "Operation get is not allowed on a disabled secret.",
                    "SecretDisabled",
                )
            )
        return Answer(200, secret_body(call.host, row, with_value=True))

    def _set(self, call: Call, caller: Caller, name: str) -> Answer:
        caller.need(Permission.SET)
        value, attributes = parse_set(call.body)
        if len(value.encode()) > MAX_VALUE_BYTES:
            raise Refused(
                vault_error(
                    400, "BadParameter", f"The value is longer than {MAX_VALUE_BYTES} bytes."
                )
            )
        if self._table.find_deleted(caller.vault, name):
            raise Refused(
                vault_error(
                    409,
                    "Conflict",
                    f"Secret {name} is currently in a deleted but recoverable state, and its name"
                    " cannot be reused; it can only be recovered or purged.",
                    "ObjectIsDeletedButRecoverable",
                )
            )
        row = self._table.set(caller.vault, name, value, attributes)
        return Answer(200, secret_body(call.host, row, with_value=True))

    def _update(self, call: Call, caller: Caller, name: str, version: str | None = None) -> Answer:
        caller.need(Permission.SET)
        attributes: SecretAttributes = parse_patch(call.body)
        old = self._found(self._table.find(caller.vault, name, version), name, version)
        row = self._table.update(caller.vault, name, old.version, attributes)
        return Answer(200, secret_body(call.host, row, with_value=False))

    def _list(self, call: Call, caller: Caller) -> Answer:
        caller.need(Permission.LIST)
        items = [secret_item(call.host, row) for row in self._table.latest(caller.vault)]
        return Answer(200, page(call, items))

    def _versions(self, call: Call, caller: Caller, name: str) -> Answer:
        """List the versions by id, not by age: the real vault promises no order either."""
        caller.need(Permission.LIST)
        rows = sorted(self._table.versions(caller.vault, name), key=lambda row: row.version)
        self._found(rows[0] if rows else None, name, None)
        return Answer(
            200, page(call, [secret_item(call.host, row, versioned=True) for row in rows])
        )

    def _delete(self, call: Call, caller: Caller, name: str) -> Answer:
        caller.need(Permission.DELETE)
        self._found(self._table.find(caller.vault, name), name, None)
        return Answer(200, deleted_body(call.host, self._table.delete(caller.vault, name)))

    def _deleted(self, call: Call, caller: Caller, rest: list[str]) -> Answer:
        match (call.method, *rest):
            case ("GET",):
                caller.need(Permission.LIST)
                rows = self._table.deleted(caller.vault)
                return Answer(200, page(call, [deleted_body(call.host, row) for row in rows]))
            case ("GET", name):
                caller.need(Permission.GET)
                return Answer(200, deleted_body(call.host, self._found_deleted(caller, name)))
            case ("DELETE", name):
                caller.need(Permission.PURGE)
                self._found_deleted(caller, name)
                self._table.purge(caller.vault, name)
                return Answer(204)
            case ("POST", name, "recover"):
                caller.need(Permission.RECOVER)
                row = self._found_deleted(caller, name).latest
                self._table.recover(caller.vault, name)
                return Answer(200, secret_body(call.host, row, with_value=False))
            case _:
                raise Refused(vault_error(405, "BadParameter", "The method is not allowed here."))

    def _found_deleted(self, caller: Caller, name: str) -> DeletedSecret:
        row = self._table.find_deleted(caller.vault, name)
        if row is None:
            raise Refused(
                vault_error(404, "SecretNotFound", f"Deleted secret not found: {_name(name)}")
            )
        return row

    @staticmethod
    def _found(row: SecretVersion | None, name: str, version: str | None) -> SecretVersion:
        if row is None:
            what = f"{name}/{version}" if version else name
            raise Refused(
                vault_error(
                    404,
                    "SecretNotFound",
                    f"A secret with (name/id) {what} was not found in this key vault. If you"
                    " recently deleted this secret you may be able to recover it.",
                )
            )
        return row


def _name(name: str) -> str:
    if not SECRET_NAME.fullmatch(name):
        raise Refused(
            vault_error(
                400,
                "BadParameter",
                f"The request URI contains an invalid name: {name[:130]}",
            )
        )
    return name
