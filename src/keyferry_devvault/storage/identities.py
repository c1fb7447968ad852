"""Identities, their federated credentials, and trusted issuers."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from keyferry.errors import RequestInvalidError
from keyferry_devvault.model import (
    DEFAULT_TENANT,
    FederatedCredential,
    Identity,
    IdentityKind,
    hash_client_secret,
)

if TYPE_CHECKING:
    import sqlite3

    from keyferry_devvault.command_hints import CommandHints
    from keyferry_devvault.crypto.jwt import Jwks
    from keyferry_devvault.storage.database import Database

SYSTEM = "system"
"""Stands for the system-assigned identity wherever a client id is asked for."""


class IdentityTable:
    """The tables of identities, federated credentials and issuers."""

    def __init__(self, database: Database, hints: CommandHints) -> None:
        self._database = database
        self._hints = hints

    def home_tenant(self) -> str:
        """Return the tenant of vaults and identities that were added without a tenant.

        It is the first tenant that was added, so that a SecretProviderClass with its own tenant
        works with earlier vaults and identities.
        """

        def load(connection: sqlite3.Connection) -> str:
            row = connection.execute("SELECT tenant FROM home_tenant").fetchone()
            return str(row[0]) if row else DEFAULT_TENANT

        return self._database.read(("home",), load)

    def add_app(self, client_id: str, *, tenant: str | None = None, secret: str | None) -> Identity:
        """Add an app with its client secret, or replace it."""
        digest = None if secret is None else hash_client_secret(secret)
        return self._upsert(client_id, tenant, IdentityKind.APP, digest)

    def add_managed(
        self, client_id: str, *, tenant: str | None = None, system_assigned: bool = False
    ) -> Identity:
        """Assign a managed identity to this machine.

        A previous system-assigned identity becomes user-assigned, because there is at most one.
        """
        kind = IdentityKind.SYSTEM_ASSIGNED if system_assigned else IdentityKind.USER_ASSIGNED
        return self._upsert(client_id, tenant, kind, None)

    def ensure_system_assigned(self) -> Identity:
        """Return the system-assigned identity of this machine, and create it if it is missing."""
        return self.system_assigned() or self.add_managed(str(uuid.uuid4()), system_assigned=True)

    def remove(self, client_id: str) -> None:
        """Remove an identity with its federated credentials and policies.

        Raises:
            RequestInvalidError: no identity has this client ID.
        """
        removed = self.get(client_id).client_id
        with self._database.write() as connection:
            for table in ("policy", "federation", "identity"):
                connection.execute(f"DELETE FROM {table} WHERE client_id = ?", (removed,))  # noqa: S608

    def all(self) -> tuple[Identity, ...]:
        """Return all identities, ordered by client ID."""

        def load(connection: sqlite3.Connection) -> tuple[Identity, ...]:
            rows = connection.execute(
                "SELECT client_id, tenant, kind, secret_digest FROM identity ORDER BY client_id"
            )
            return tuple(
                Identity(client_id, tenant or home, IdentityKind(kind), digest)
                for client_id, tenant, kind, digest in rows
            )

        home = self.home_tenant()

        return self._database.read(("identities",), load)

    def find(self, client_id: str) -> Identity | None:
        """Return the identity with this client ID, or `system`; None if it is unknown."""
        if client_id == SYSTEM:
            return self.system_assigned()
        return next((row for row in self.all() if row.client_id == client_id.lower()), None)

    def get(self, client_id: str) -> Identity:
        """Return the identity with this client ID, or `system`.

        Raises:
            RequestInvalidError: there is no such identity.
        """
        if identity := self.find(client_id):
            return identity
        if client_id == SYSTEM:
            raise RequestInvalidError(
                "this machine has no system-assigned identity",
                f"Add one: {self._hints.line('identity', 'add-managed', '--system')}",
            )
        raise RequestInvalidError(
            f"no identity has the client ID {client_id!r}",
            f"List the identities: {self._hints.line('identity', 'list')}; add a managed one: "
            f"{self._hints.line('identity', 'add-managed', client_id)}, an app: "
            f"{self._hints.line('identity', 'add-app', client_id)}",
        )

    def system_assigned(self) -> Identity | None:
        """Return the identity that IMDS uses if a request names none."""
        kinds = IdentityKind.SYSTEM_ASSIGNED
        return next((row for row in self.all() if row.kind is kinds), None)

    def tenants(self) -> frozenset[str]:
        """Return all tenants."""
        return frozenset({self.home_tenant(), *(row.tenant for row in self.all())})

    def add_federated_credential(self, credential: FederatedCredential) -> None:
        """Permit a client to authenticate with tokens of an issuer.

        Raises:
            RequestInvalidError: the client is unknown, or is the system-assigned identity.
        """
        if self.get(credential.client_id).kind is IdentityKind.SYSTEM_ASSIGNED:
            raise RequestInvalidError(
                "a system-assigned identity cannot have a federated credential",
                "Use a user-assigned identity or an app.",
            )
        with self._database.write() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO federation VALUES (?, ?, ?, ?)",
                (
                    credential.client_id.lower(),
                    credential.issuer,
                    credential.subject,
                    credential.audience,
                ),
            )

    def federated_credentials(self, client_id: str) -> tuple[FederatedCredential, ...]:
        """Return the federated credentials of a client."""

        def load(connection: sqlite3.Connection) -> tuple[FederatedCredential, ...]:
            rows = connection.execute(
                "SELECT client_id, issuer, subject, audience FROM federation WHERE client_id = ?",
                (client_id.lower(),),
            )
            return tuple(FederatedCredential(*row) for row in rows)

        return self._database.read(("federations", client_id.lower()), load)

    def add_issuer(self, url: str, jwks: str) -> None:
        """Trust the keys of the document `jwks` for tokens whose `iss` is `url`.

        Raises:
            RequestInvalidError: `jwks` is not a set of usable public keys.
        """
        from keyferry_devvault.crypto.jwt import JwtError, parse_jwks

        try:
            parse_jwks(jwks)
        except JwtError as error:
            raise RequestInvalidError(
                f"the JWKS of issuer {url!r} cannot be used: {error}",
                "Pass the public keys that the issuer serves, for example those of: "
                "kubectl get --raw /openid/v1/jwks",
            ) from error
        with self._database.write() as connection:
            connection.execute("INSERT OR REPLACE INTO issuer VALUES (?, ?)", (url, jwks))

    def issuer_keys(self, url: str) -> Jwks | None:
        """Return the keys of an issuer; None if it is unknown."""
        from keyferry_devvault.crypto.jwt import parse_jwks

        def load(connection: sqlite3.Connection) -> Jwks | None:
            row = connection.execute("SELECT jwks FROM issuer WHERE url = ?", (url,)).fetchone()
            return parse_jwks(row[0]) if row else None

        return self._database.read(("issuer", url), load)

    def issuers(self) -> tuple[str, ...]:
        """Return the URLs of all issuers, in order."""
        return self._database.read(
            ("issuers",),
            lambda c: tuple(url for (url,) in c.execute("SELECT url FROM issuer ORDER BY url")),
        )

    def _upsert(
        self, client_id: str, tenant: str | None, kind: IdentityKind, digest: bytes | None
    ) -> Identity:
        client_id, tenant = client_id.lower(), tenant.lower() if tenant else None
        if client_id in ("", SYSTEM):
            raise RequestInvalidError(
                f"{client_id!r} cannot be a client ID", "Pass the ID in the SecretProviderClass."
            )
        with self._database.write() as connection:
            if tenant is not None:
                connection.execute("INSERT OR IGNORE INTO home_tenant VALUES (1, ?)", (tenant,))
            if kind is IdentityKind.SYSTEM_ASSIGNED:
                connection.execute(
                    "UPDATE identity SET kind = ? WHERE kind = ?",
                    (IdentityKind.USER_ASSIGNED, IdentityKind.SYSTEM_ASSIGNED),
                )
            connection.execute(
                "INSERT INTO identity VALUES (?, ?, ?, ?) ON CONFLICT (client_id) DO UPDATE SET"
                " tenant = excluded.tenant, kind = excluded.kind,"
                " secret_digest = excluded.secret_digest",
                (client_id, tenant, kind, digest),
            )
        return self.get(client_id)
