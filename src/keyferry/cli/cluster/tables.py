"""The tables of `keyferry status`: their rows and columns."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from msgspec import Struct, field

from keyferry.cli.output import format_table, table_cell
from keyferry.inventory.ages import format_age

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from keyferry.inventory.objects import ObjectRow
    from keyferry.inventory.secrets import SecretRow
    from keyferry.inventory.syncs import SyncRow

_NAMESPACE = "namespace"


class Table(Struct, frozen=True):
    """Rows of one kind.

    Attributes:
        rows: the keys are lower camel case, as in the Kubernetes API.
        columns: heading -> key of a row, in the order of the table.
        wide: keys of columns that only a wide table has.
    """

    rows: list[dict[str, object]]
    columns: Mapping[str, str]
    wide: frozenset[str] = field(default=frozenset())

    def text(self, *, wide: bool, namespaces: bool) -> str:
        """Return the table.

        Args:
            wide: with all columns.
            namespaces: with the namespace of each row.
        """
        hidden = {*(() if wide else self.wide), *(() if namespaces else (_NAMESPACE,))}
        columns = {title: key for title, key in self.columns.items() if key not in hidden}
        cells = ({**row, **_ages(row)} for row in self.rows)
        lines = [[table_cell(row.get(key)) for key in columns.values()] for row in cells]
        return format_table([list(columns), *lines])


def object_table(rows: Iterable[ObjectRow]) -> Table:
    """Return the table of the objects of pods."""
    return Table([_object(row) for row in rows], _OBJECT_COLUMNS, frozenset({"node", "mounted"}))


def sync_table(rows: Iterable[SyncRow]) -> Table:
    """Return the table of the objects of SecretSyncs."""
    wide = frozenset({"serviceAccount", "reason"})
    return Table([_sync(row) for row in rows], _SYNC_COLUMNS, wide)


def secret_table(rows: Iterable[SecretRow]) -> Table:
    """Return the table of the users of Secrets."""
    return Table([_secret(row) for row in rows], _SECRET_COLUMNS)


_OBJECT_COLUMNS = {
    "NAMESPACE": _NAMESPACE,
    "POD": "pod",
    "CLASS": "secretProviderClass",
    "OBJECT": "object",
    "VERSION": "version",
    "ENVIRONMENT": "environment",
    "EXPIRES": "expires",
    "REFRESHED": "refreshed",
    "MOUNTED": "mounted",
    "NODE": "node",
    "PROBLEM": "problem",
}
_SYNC_COLUMNS = {
    "NAMESPACE": _NAMESPACE,
    "SECRETSYNC": "secretSync",
    "CLASS": "secretProviderClass",
    "OBJECT": "object",
    "VERSION": "version",
    "EXPIRES": "expires",
    "SYNCED": "synced",
    "SERVICEACCOUNT": "serviceAccount",
    "READY": "ready",
    "REASON": "reason",
    "PROBLEM": "problem",
}
_SECRET_COLUMNS = {
    "NAMESPACE": _NAMESPACE,
    "SECRET": "secret",
    "DEFINED BY": "definedBy",
    "USAGE": "usage",
    "KIND": "kind",
    "NAME": "name",
    "ENVIRONMENT": "environment",
}


def _object(row: ObjectRow) -> dict[str, object]:
    return {
        _NAMESPACE: row.namespace,
        "pod": row.pod,
        "secretProviderClass": row.class_name,
        "object": row.object,
        "version": row.version,
        "environment": row.environment,
        "environmentOldSince": _iso(row.changed_at),
        "expiresAt": _iso(row.expires_at),
        "refreshedAt": _iso(row.refreshed_at),
        "mountedAt": _iso(row.mounted_at),
        "node": row.node,
        "problem": row.problem,
    }


def _sync(row: SyncRow) -> dict[str, object]:
    return {
        _NAMESPACE: row.namespace,
        "secretSync": row.sync,
        "secretProviderClass": row.class_name,
        "serviceAccount": row.service_account,
        "object": row.object,
        "version": row.version,
        "expiresAt": _iso(row.expires_at),
        "syncedAt": _iso(row.synced_at),
        "ready": row.ready,
        "reason": row.reason,
        "problem": row.problem,
    }


def _secret(row: SecretRow) -> dict[str, object]:
    from keyferry.inventory.users import OLD

    secret = row.secret
    return {
        _NAMESPACE: secret.namespace,
        "secret": secret.name,
        "definedBy": f"{secret.kind.lower()}/{secret.source}" if secret.source else "",
        "usage": row.usage,
        "kind": row.kind,
        "name": row.user,
        "environment": row.environment,
        "environmentOldSince": _iso(secret.changed_at) if row.environment == OLD else None,
    }


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat(timespec="seconds") if moment else None


def _ages(row: Mapping[str, object]) -> dict[str, object]:
    """Return the cells of the table that show how long ago something was, or how soon it is."""
    since = _age(row.get("environmentOldSince"))
    return {
        "refreshed": _age(row.get("refreshedAt")),
        "synced": _age(row.get("syncedAt")),
        "mounted": _age(row.get("mountedAt")),
        "expires": _remaining(row.get("expiresAt")),
        "environment": f"old for {since}" if since else row.get("environment", ""),
    }


def _age(moment: object) -> str:
    """Return how long ago a time was; "" without one."""
    return format_age(-_seconds_until(moment)) if isinstance(moment, str) else ""


def _remaining(moment: object) -> str:
    """Return how soon a time is; "" without one."""
    if not isinstance(moment, str):
        return ""
    seconds = _seconds_until(moment)
    return f"in {format_age(seconds)}" if seconds > 0 else "expired"


def _seconds_until(moment: str) -> float:
    return (datetime.fromisoformat(moment) - datetime.now(UTC)).total_seconds()
