"""Secrets in the Key Vault REST API 7.4."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.records import replace
from keyferry_devvault.http_types import HttpError, Request, Response, vault_error_response
from keyferry_devvault.keyvault.secret_bodies import (
    deleted_secret_body,
    paginate,
    parse_patch,
    parse_set,
    secret_body,
    secret_item,
)
from keyferry_devvault.model import (
    MAX_VALUE_BYTES,
    SECRET_NAME,
    DeletedSecret,
    Permission,
    SecretAttributes,
    SecretVersion,
)

if TYPE_CHECKING:
    from keyferry_devvault.keyvault.vault import Caller
    from keyferry_devvault.storage.secrets import SecretTable


class SecretsApi:
    """Serves `/secrets` and `/deletedsecrets` of all vaults."""

    def __init__(self, table: SecretTable) -> None:
        self._table = table

    def handle(self, request: Request, caller: Caller) -> Response:  # noqa: PLR0911 - a routing table
        """Handle one request of an authenticated caller.

        Raises:
            HttpError: the error response.
        """
        match (request.method, *request.path.strip("/").split("/")):
            case ("GET", "secrets"):
                return self._list(request, caller)
            case ("GET", "secrets", name, "versions"):
                return self._versions(request, caller, _checked_name(name))
            case ("GET", "secrets", name, *version) if len(version) < 2:
                return self._get(request, caller, _checked_name(name), *version)
            case ("PUT", "secrets", name):
                return self._set(request, caller, _checked_name(name))
            case ("PATCH", "secrets", name, *version) if len(version) < 2:
                return self._update(request, caller, _checked_name(name), *version)
            case ("DELETE", "secrets", name):
                return self._delete(request, caller, _checked_name(name))
            case (_, "deletedsecrets", *rest):
                return self._deleted(request, caller, rest)
            case _:
                raise HttpError(
                    vault_error_response(405, "BadParameter", "The method is not allowed here.")
                )

    def _get(
        self, request: Request, caller: Caller, name: str, version: str | None = None
    ) -> Response:
        caller.require(Permission.GET)
        row = self._require_row(self._table.find(caller.vault, name, version), name, version)
        if not row.enabled:
            disabled = vault_error_response(
                403,
                "Forbidden",
                "Operation get is not allowed on a disabled secret.",
                "SecretDisabled",
            )
            which = ("--version", row.version) if version else ()
            command = caller.hints.line("enable", caller.vault, name, *which)
            raise HttpError(replace(disabled, note=f"enable it: {command}"))
        return Response(200, secret_body(request.host, row, with_value=True))

    def _set(self, request: Request, caller: Caller, name: str) -> Response:
        caller.require(Permission.SET)
        value, attributes = parse_set(request.body)
        if len(value.encode()) > MAX_VALUE_BYTES:
            raise HttpError(
                vault_error_response(
                    400, "BadParameter", f"The value is longer than {MAX_VALUE_BYTES} bytes."
                )
            )
        if self._table.find_deleted(caller.vault, name):
            raise HttpError(
                vault_error_response(
                    409,
                    "Conflict",
                    f"Secret {name} is currently in a deleted but recoverable state, and its name"
                    " cannot be reused; it can only be recovered or purged.",
                    "ObjectIsDeletedButRecoverable",
                )
            )
        row = self._table.set(caller.vault, name, value, attributes)
        return Response(200, secret_body(request.host, row, with_value=True))

    def _update(
        self, request: Request, caller: Caller, name: str, version: str | None = None
    ) -> Response:
        caller.require(Permission.SET)
        attributes: SecretAttributes = parse_patch(request.body)
        old = self._require_row(self._table.find(caller.vault, name, version), name, version)
        row = self._table.update(caller.vault, name, old.version, attributes)
        return Response(200, secret_body(request.host, row, with_value=False))

    def _list(self, request: Request, caller: Caller) -> Response:
        caller.require(Permission.LIST)
        items = [secret_item(request.host, row) for row in self._table.latest(caller.vault)]
        return Response(200, paginate(request, items))

    def _versions(self, request: Request, caller: Caller, name: str) -> Response:
        """List the versions by ID, not by age, because Key Vault promises no order either."""
        caller.require(Permission.LIST)
        rows = sorted(self._table.versions(caller.vault, name), key=lambda row: row.version)
        self._require_row(rows[0] if rows else None, name, None)
        return Response(
            200, paginate(request, [secret_item(request.host, row, versioned=True) for row in rows])
        )

    def _delete(self, request: Request, caller: Caller, name: str) -> Response:
        caller.require(Permission.DELETE)
        self._require_row(self._table.find(caller.vault, name), name, None)
        return Response(
            200, deleted_secret_body(request.host, self._table.delete(caller.vault, name))
        )

    def _deleted(self, request: Request, caller: Caller, rest: list[str]) -> Response:
        match (request.method, *rest):
            case ("GET",):
                caller.require(Permission.LIST)
                rows = self._table.deleted(caller.vault)
                return Response(
                    200, paginate(request, [deleted_secret_body(request.host, row) for row in rows])
                )
            case ("GET", name):
                caller.require(Permission.GET)
                return Response(
                    200, deleted_secret_body(request.host, self._require_deleted(caller, name))
                )
            case ("DELETE", name):
                caller.require(Permission.PURGE)
                self._require_deleted(caller, name)
                self._table.purge(caller.vault, name)
                return Response(204)
            case ("POST", name, "recover"):
                caller.require(Permission.RECOVER)
                row = self._require_deleted(caller, name).latest
                self._table.recover(caller.vault, name)
                return Response(200, secret_body(request.host, row, with_value=False))
            case _:
                raise HttpError(
                    vault_error_response(405, "BadParameter", "The method is not allowed here.")
                )

    def _require_deleted(self, caller: Caller, name: str) -> DeletedSecret:
        row = self._table.find_deleted(caller.vault, name)
        if row is None:
            raise HttpError(
                vault_error_response(
                    404, "SecretNotFound", f"Deleted secret not found: {_checked_name(name)}"
                )
            )
        return row

    @staticmethod
    def _require_row(row: SecretVersion | None, name: str, version: str | None) -> SecretVersion:
        if row is None:
            what = f"{name}/{version}" if version else name
            raise HttpError(
                vault_error_response(
                    404,
                    "SecretNotFound",
                    f"A secret with (name/id) {what} was not found in this key vault. If you"
                    " recently deleted this secret you may be able to recover it.",
                )
            )
        return row


def _checked_name(name: str) -> str:
    if not SECRET_NAME.fullmatch(name):
        raise HttpError(
            vault_error_response(
                400,
                "BadParameter",
                f"The request URI contains an invalid name: {name[:130]}",
            )
        )
    return name
