"""Access policies of the vaults, and the tenant of each vault."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.errors import RequestInvalidError
from keyferry_devvault.model import Identity, Permission

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from keyferry_devvault.storage.database import Database
    from keyferry_devvault.storage.identities import IdentityTable
    from keyferry_devvault.storage.vaults import VaultTable


class PolicyTable:
    """The table of access policies."""

    def __init__(self, database: Database, identities: IdentityTable, vaults: VaultTable) -> None:
        self._database = database
        self._identities = identities
        self._vaults = vaults

    def tenant(self, vault: str) -> str | None:
        """Return the tenant whose tokens a vault accepts; None if there is no such vault.

        A vault belongs to the tenant of the identities that have a policy on it, otherwise to the
        home tenant.
        """
        home = self._identities.home_tenant()

        def load(connection: sqlite3.Connection) -> str | None:
            row = connection.execute(
                "SELECT tenant FROM vault WHERE name = ?", (vault.lower(),)
            ).fetchone()
            return (row[0] or home) if row else None

        return self._database.read(("tenant", vault.lower()), load)

    def set_permissions(
        self, vault: str, client_id: str, permissions: Iterable[Permission]
    ) -> None:
        """Set the permissions of an identity on an existing vault; an empty set removes the policy.

        Raises:
            ObjectNotFoundError: there is no such vault.
            RequestInvalidError: the identity is unknown, or its tenant is not that of the vault.
        """
        identity = self._identities.get(client_id)
        self._check_tenant(vault, identity)
        # A vault of the home tenant moves along when that changes.
        claimed = None if identity.tenant == self._identities.home_tenant() else identity.tenant
        granted = sorted(set(permissions))
        with self._database.write() as connection:
            connection.execute(
                "UPDATE vault SET tenant = ? WHERE name = ?", (claimed, vault.lower())
            )
            connection.execute(
                "DELETE FROM policy WHERE vault = ? AND client_id = ?",
                (vault.lower(), identity.client_id),
            )
            connection.executemany(
                "INSERT INTO policy VALUES (?, ?, ?)",
                [(vault.lower(), identity.client_id, permission) for permission in granted],
            )

    def allowed(self, vault: str, client_id: str) -> frozenset[Permission]:
        """Return the permissions of an identity on a vault."""
        return self.of_vault(vault).get(client_id.lower(), frozenset())

    def of_vault(self, vault: str) -> dict[str, frozenset[Permission]]:
        """Return the permissions of all identities with a policy on a vault, by client ID."""

        def load(connection: sqlite3.Connection) -> dict[str, frozenset[Permission]]:
            rows = connection.execute(
                "SELECT client_id, permission FROM policy WHERE vault = ? ORDER BY client_id",
                (vault.lower(),),
            )
            policies: dict[str, frozenset[Permission]] = {}
            for client, permission in rows:
                policies[client] = policies.get(client, frozenset()) | {Permission(permission)}
            return policies

        return self._database.read(("policies", vault.lower()), load)

    def _check_tenant(self, vault: str, identity: Identity) -> None:
        """Check that the vault exists and that no identity of another tenant has a policy on it."""
        self._vaults.require(vault)
        tenant = self.tenant(vault)
        others = self.of_vault(vault).keys() - {identity.client_id}
        if others and tenant != identity.tenant:
            raise RequestInvalidError(
                f"vault {vault!r} belongs to tenant {tenant!r}, identity {identity.client_id!r} to"
                f" {identity.tenant!r}",
                "A vault accepts identities of one tenant: add the identity with the tenant of"
                " the vault (--tenant).",
            )
