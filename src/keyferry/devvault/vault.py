"""A vault as a whole: the checks that come before every operation on a secret."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from keyferry.devvault.access_tokens import AccessTokens, TokenProblem
from keyferry.devvault.exchange import Answer, Call, Refused, vault_error

if TYPE_CHECKING:
    from keyferry.devvault.clouds import VaultStation
    from keyferry.devvault.data import DevVaultData
    from keyferry.devvault.jwt import Claims
    from keyferry.devvault.model import Permission

API_VERSIONS = frozenset(
    {"2016-10-01", "7.0", "7.1", "7.2", "7.3", "7.4", "7.5", "7.6", "2025-07-01", "2026-04-01"}
)


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated caller of one vault.

    Attributes:
        vault: its name.
        claims: of the caller's token.
        permissions: what the access policy allows.
    """

    vault: str
    claims: Claims
    permissions: frozenset[Permission]

    def need(self, permission: Permission, kind: str = "secrets") -> None:
        """Make sure that the caller may do this to objects of that kind.

        One policy stands for all kinds; the real vault has one for each.

        Raises:
            Refused: the access policy does not say so.
        """
        if permission in self.permissions:
            return
        who = f"appid={self.claims.appid};oid={self.claims.oid};iss={self.claims.iss}"
        refusal = vault_error(
            403,
            "Forbidden",
            f"The user, group or application '{who}' does not have {kind} {permission} permission"
            f" on key vault '{self.vault};location=loopback'.",
            "AccessDenied",
        )
        note = (
            f"allow it: keyferry devvault policy {self.vault} {self.claims.appid} --allow get,list"
        )
        raise Refused(replace(refusal, note=note))


Operation = Callable[[Call, Caller], Answer]
"""A handler of one kind of object: secrets, keys or certificates."""


class Vault:
    """Answers for every vault of every cloud."""

    def __init__(
        self, data: DevVaultData, tokens: AccessTokens, collections: dict[str, Operation]
    ) -> None:
        """`collections` maps the first part of a path to who answers for it."""
        self._data = data
        self._tokens = tokens
        self._collections = collections

    def answer(self, call: Call, station: VaultStation) -> Answer:
        """Handle one request: vault, token, API version, then the operation.

        Raises:
            Refused: with the answer that says why.
        """
        tenant = self._data.policies.tenant(station.vault)
        if tenant is None:
            refusal = vault_error(
                404,
                "VaultNotFound",
                f"There is no vault '{station.vault}' in this development vault.",
            )
            note = f"make it: keyferry devvault set {station.vault} NAME"
            raise Refused(replace(refusal, note=note))
        claims = self._authenticate(call, station, tenant)
        _check_api_version(call)
        collection = self._collections.get(call.path.split("/")[1])
        if collection is None:
            raise Refused(vault_error(404, "NotFound", "There is nothing at this path."))
        allowed = self._data.policies.allowed(station.vault, claims.appid)
        try:
            answer = collection(call, Caller(station.vault, claims, allowed))
        except Refused as refusal:
            answer = refusal.answer
        return replace(answer, principal=claims.appid)

    def _authenticate(self, call: Call, station: VaultStation, tenant: str) -> Claims:
        scheme, _, token = call.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            problem = TokenProblem("AKV10000: Request is missing a Bearer or PoP token.")
            raise _unauthorized(station, tenant, problem)
        claims = self._tokens.check(
            token.strip(), audience=station.resource, tenant=tenant, now=call.now
        )
        if isinstance(claims, TokenProblem):
            raise _unauthorized(station, tenant, claims)
        return claims


def _unauthorized(station: VaultStation, tenant: str, problem: TokenProblem) -> Refused:
    challenge = (
        f'Bearer authorization="{station.cloud.authority(tenant)}", resource="{station.resource}"'
    )
    refusal = vault_error(401, "Unauthorized", problem.message)
    return Refused(Answer(401, refusal.body, {"WWW-Authenticate": challenge}, note=problem.message))


def _check_api_version(call: Call) -> None:
    version = call.query.get("api-version", "")
    if not version:
        raise Refused(
            vault_error(400, "BadParameter", "The api-version parameter must be specified.")
        )
    if version not in API_VERSIONS:
        raise Refused(
            vault_error(
                400,
                "BadParameter",
                f"The specified version ({version[:40]}) is not recognized. Consider using 7.4.",
            )
        )
