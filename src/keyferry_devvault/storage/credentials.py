"""Credentials of identities: certificates of apps, and pods (AAD Pod Identity)."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from msgspec import Struct

from keyferry.errors import RequestInvalidError

if TYPE_CHECKING:
    import sqlite3

    from keyferry_devvault.crypto.jwt import AppCertificate
    from keyferry_devvault.storage.database import Database
    from keyferry_devvault.storage.identities import IdentityTable

_SCHEMA = (
    (
        "CREATE TABLE IF NOT EXISTS app_certificate ("
        " client_id TEXT NOT NULL REFERENCES identity ON DELETE CASCADE, pem TEXT NOT NULL,"
        " PRIMARY KEY (client_id, pem))"
    ),
    (
        "CREATE TABLE IF NOT EXISTS pod_identity ("
        " client_id TEXT NOT NULL REFERENCES identity ON DELETE CASCADE,"
        " namespace TEXT NOT NULL, pod TEXT NOT NULL,"
        " PRIMARY KEY (client_id, namespace, pod))"
    ),
)


class PodAssignment(Struct, frozen=True):
    """The pods that a managed identity is assigned to.

    Attributes:
        client_id: client ID of the identity.
        namespace: namespace of the pods.
        pod: their name; `*` matches any number of characters.
    """

    client_id: str
    namespace: str
    pod: str = "*"


class CredentialTable:
    """The tables of app certificates and pod assignments."""

    def __init__(self, database: Database, identities: IdentityTable) -> None:
        self._database = database
        self._identities = identities
        with database.write() as connection:
            for statement in _SCHEMA:
                connection.execute(statement)

    def add_certificate(self, client_id: str, pem: str) -> None:
        """Permit an app to authenticate with the key of this certificate.

        Raises:
            RequestInvalidError: the client is unknown, or `pem` has no certificate with an RSA key.
        """
        from keyferry_devvault.crypto.jwt import JwtError, parse_app_certificate

        owner = self._identities.get(client_id).client_id
        try:
            parse_app_certificate(pem)
        except JwtError as error:
            raise RequestInvalidError(
                f"the certificate of app {owner} cannot be used: {error}",
                "Pass a PEM certificate with an RSA key.",
            ) from error
        with self._database.write() as connection:
            connection.execute("INSERT OR IGNORE INTO app_certificate VALUES (?, ?)", (owner, pem))

    def certificates(self, client_id: str) -> tuple[AppCertificate, ...]:
        """Return the certificates of an app."""
        from keyferry_devvault.crypto.jwt import parse_app_certificate

        def load(connection: sqlite3.Connection) -> tuple[AppCertificate, ...]:
            query = "SELECT pem FROM app_certificate WHERE client_id = ?"
            rows = connection.execute(query, (client_id.lower(),))
            return tuple(parse_app_certificate(pem) for (pem,) in rows)

        return self._database.read(("app_certificates", client_id.lower()), load)

    def assign_to_pods(self, assignment: PodAssignment) -> None:
        """Permit pods to get tokens of a managed identity from NMI.

        Raises:
            RequestInvalidError: the client is unknown.
        """
        owner = self._identities.get(assignment.client_id).client_id
        with self._database.write() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO pod_identity VALUES (?, ?, ?)",
                (owner, assignment.namespace, assignment.pod),
            )

    def identity_of_pod(self, namespace: str, pod: str) -> str | None:
        """Return the client ID of the identity of a pod; None if it has none."""

        def load(connection: sqlite3.Connection) -> tuple[PodAssignment, ...]:
            query = "SELECT client_id, namespace, pod FROM pod_identity ORDER BY client_id, pod"
            return tuple(PodAssignment(*row) for row in connection.execute(query))

        for row in self._database.read(("pod_identities",), load):
            if row.namespace == namespace and fnmatchcase(pod, row.pod):
                return row.client_id
        return None
