"""A vault: the checks before each operation, and the routing to secrets, keys, certificates."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from msgspec import Struct

from keyferry.records import replace
from keyferry_devvault.entra.access_tokens import AccessTokens, TokenRejection
from keyferry_devvault.http_types import HttpError, Request, Response, vault_error_response
from keyferry_devvault.model import Permission

if TYPE_CHECKING:
    from keyferry_devvault.clouds import VaultHost
    from keyferry_devvault.command_hints import CommandHints
    from keyferry_devvault.crypto.jwt import JwtClaims
    from keyferry_devvault.storage.data import DevVaultData

API_VERSIONS = frozenset(
    {"2016-10-01", "7.0", "7.1", "7.2", "7.3", "7.4", "7.5", "7.6", "2025-07-01", "2026-04-01"}
)


class Caller(Struct, frozen=True):
    """An authenticated caller of one vault.

    Attributes:
        vault: its name.
        claims: the claims of the caller's token.
        permissions: the permissions of the access policy.
        hints: writes the command that grants a permission.
    """

    vault: str
    claims: JwtClaims
    permissions: frozenset[Permission]
    hints: CommandHints

    def require(self, permission: Permission, kind: str = "secrets") -> None:
        """Check the permission of the caller for objects of this kind.

        One policy applies to all kinds; Key Vault has one for each kind.

        Raises:
            HttpError: the access policy does not grant the permission.
        """
        if permission in self.permissions:
            return
        who = f"appid={self.claims.appid};oid={self.claims.oid};iss={self.claims.iss}"
        forbidden = vault_error_response(
            403,
            "Forbidden",
            f"The user, group or application '{who}' does not have {kind} {permission} permission"
            f" on key vault '{self.vault};location=loopback'.",
            "AccessDenied",
        )
        allow = ",".join(sorted({*self.permissions, Permission.GET, Permission.LIST, permission}))
        command = self.hints.line("policy", self.vault, self.claims.appid, "--allow", allow)
        raise HttpError(replace(forbidden, note=f"allow it: {command}"))


CollectionHandler = Callable[[Request, Caller], Response]
"""A handler of one kind of object: secrets, keys or certificates."""


class KeyVaultApi:
    """Serves all vaults of all clouds."""

    def __init__(
        self, data: DevVaultData, tokens: AccessTokens, handlers: dict[str, CollectionHandler]
    ) -> None:
        """Route by the first part of the path with `handlers`."""
        self._data = data
        self._tokens = tokens
        self._handlers = handlers

    def handle(self, request: Request, host: VaultHost) -> Response:
        """Handle one request: vault, token, API version, then the operation.

        Raises:
            HttpError: the error response.
        """
        tenant = self._data.policies.tenant(host.vault)
        if tenant is None:
            forbidden = vault_error_response(
                404,
                "VaultNotFound",
                f"There is no vault '{host.vault}' in this development vault.",
            )
            note = f"create it: {self._data.hints.line('set', host.vault, 'NAME')}"
            raise HttpError(replace(forbidden, note=note))
        claims = self._authenticate(request, host, tenant)
        _check_api_version(request)
        collection = self._handlers.get(request.path.split("/")[1])
        if collection is None:
            raise HttpError(vault_error_response(404, "NotFound", "There is nothing at this path."))
        allowed = self._data.policies.allowed(host.vault, claims.appid)
        try:
            response = collection(request, Caller(host.vault, claims, allowed, self._data.hints))
        except HttpError as error:
            response = error.response
        return replace(response, principal=claims.appid)

    def _authenticate(self, request: Request, host: VaultHost, tenant: str) -> JwtClaims:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            problem = TokenRejection("AKV10000: Request is missing a Bearer or PoP token.")
            raise _unauthorized(host, tenant, problem, self._data.hints)
        claims = self._tokens.validate(
            token.strip(), audience=host.resource, tenant=tenant, now=request.received_at
        )
        if isinstance(claims, TokenRejection):
            raise _unauthorized(host, tenant, claims, self._data.hints)
        return claims


def _unauthorized(
    host: VaultHost, tenant: str, problem: TokenRejection, hints: CommandHints
) -> HttpError:
    challenge = f'Bearer authorization="{host.cloud.authority(tenant)}", resource="{host.resource}"'
    unauthorized = vault_error_response(401, "Unauthorized", problem.message)
    # A token of another tenant is what a wrong tenantID leads to.
    hint = f"; list the tenants: {hints.line('identity', 'list')}"
    note = problem.message + (hint if problem.wrong_tenant else "")
    return HttpError(Response(401, unauthorized.body, {"WWW-Authenticate": challenge}, note=note))


def _check_api_version(request: Request) -> None:
    version = request.query.get("api-version", "")
    if not version:
        raise HttpError(
            vault_error_response(
                400, "BadParameter", "The api-version parameter must be specified."
            )
        )
    if version not in API_VERSIONS:
        raise HttpError(
            vault_error_response(
                400,
                "BadParameter",
                f"The specified version ({version[:40]}) is not recognized. Consider using 7.4.",
            )
        )
