"""The state of each workload: a volume of a pod, or the Secret of a SecretSync. [pure]

1. failing: the last refresh or sync failed, so the content may be old.
2. stale: it has an older version than another copy of the same object of a Key Vault, a container
   has an older version in its environment, or no controller has handled the last change yet.
3. expiring: an object has expired, or will within `EXPIRES_SOON`.
4. pending: no driver or controller has reported a result yet.
5. healthy: none of these.

The first one that applies counts. Versions are only compared for Azure: those of Vault and OpenBao
depend on the HMAC key of the node, and dynamic secrets have no common version.
"""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from msgspec import Struct

from keyferry.inventory.syncs import NOT_YET_HANDLED, sync_problem
from keyferry.inventory.users import NOT_MOUNTED, OLD
from keyferry.kubernetes.syncs.conditions import READY
from keyferry.kubernetes.syncs.objects import ConditionStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from keyferry.inventory.objects import ObjectRow
    from keyferry.kubernetes.syncs.objects import SecretSync
    from keyferry.status_page.facts import ClassFacts, ClusterFacts

EXPIRES_SOON = timedelta(days=30)
_COMPARED_PROVIDER = "azure"
_NO_STATUS = "no controller has reported a status yet"


class State(StrEnum):
    """The state of a workload, the most urgent one first."""

    FAILING = "failing"
    STALE = "stale"
    EXPIRING = "expiring"
    PENDING = "pending"
    HEALTHY = "healthy"


class Kind(StrEnum):
    """The kinds of workloads; the value is that of the Kubernetes API."""

    POD = "Pod"
    SYNC = "SecretSync"


class Item(Struct, frozen=True):
    """An object in a workload.

    Attributes:
        id: such as `secret/db-password`.
        version: that the workload has.
        note: what is wrong with it; "" if nothing is.
        expires_at: None if it does not expire, or if that is unknown.
    """

    id: str
    version: str
    note: str = ""
    expires_at: datetime | None = None


class Workload(Struct, frozen=True):
    """A volume of a pod, or the Secret of a SecretSync.

    Attributes:
        kind: of the object that is named.
        namespace: of the object.
        name: of the pod or the SecretSync.
        class_name: the SecretProviderClass.
        vaults: that it names.
        node: of the pod; "" for a SecretSync.
        state: the most urgent one.
        problem: why it is not healthy; "" if objects have notes, or it is healthy.
        updated_at: when content was last fetched; None if unknown.
        items: its objects.
    """

    kind: Kind
    namespace: str
    name: str
    class_name: str
    vaults: tuple[str, ...]
    node: str
    state: State
    problem: str
    updated_at: datetime | None
    items: tuple[Item, ...]

    @property
    def expires_at(self) -> datetime | None:
        """When its first object expires; None if none does."""
        return min((each.expires_at for each in self.items if each.expires_at), default=None)


class Inventory(Struct, frozen=True):
    """The facts of the cluster, with the state of each workload.

    Attributes:
        facts: what was read.
        workloads: the most urgent ones first, then by namespace and name.
    """

    facts: ClusterFacts
    workloads: tuple[Workload, ...]


def take_inventory(facts: ClusterFacts) -> Inventory:
    """Return the state of each workload at the time of the facts."""
    classes = {(each.namespace, each.name): each for each in facts.classes}
    newest = _newest_versions(facts.volumes, classes)
    found = [_volume(rows, classes, newest, facts.read_at) for rows in facts.volumes if rows]
    found += [_sync(each, classes, facts.read_at) for each in facts.syncs]
    rank = {state: number for number, state in enumerate(State)}
    found.sort(
        key=lambda each: (rank[each.state], each.namespace, each.kind, each.name, each.class_name)
    )
    return Inventory(facts, tuple(found))


def count_states(workloads: Iterable[Workload]) -> Counter[State]:
    """Return how many workloads are in each state."""
    return Counter(each.state for each in workloads)


_ObjectKey = tuple[str, str, str]
"""Namespace, SecretProviderClass and object."""


def _newest_versions(
    volumes: Iterable[Sequence[ObjectRow]], classes: Mapping[tuple[str, str], ClassFacts]
) -> dict[_ObjectKey, ObjectRow]:
    """Return the row that was refreshed last, of each object whose versions can be compared."""
    newest: dict[_ObjectKey, ObjectRow] = {}
    for rows in volumes:
        for row in rows:
            spc = classes.get((row.namespace, row.class_name))
            if spc is None or spc.provider != _COMPARED_PROVIDER or row.refreshed_at is None:
                continue
            known = newest.get(key := _object_key(row))
            if known is None or known.refreshed_at is None or known.refreshed_at < row.refreshed_at:
                newest[key] = row
    return newest


def _object_key(row: ObjectRow) -> _ObjectKey:
    return row.namespace, row.class_name, row.object


def _volume(
    rows: Sequence[ObjectRow],
    classes: Mapping[tuple[str, str], ClassFacts],
    newest: Mapping[_ObjectKey, ObjectRow],
    now: datetime,
) -> Workload:
    first = rows[0]
    notes = [_volume_note(row, newest.get(_object_key(row))) for row in rows]
    items = tuple(
        Item(row.object, row.version, note or _expiry_note(row.expires_at, now), row.expires_at)
        for row, note in zip(rows, notes, strict=True)
        if row.object
    )
    if first.problem:
        state = State.PENDING if first.problem == NOT_MOUNTED else State.FAILING
    elif any(notes):
        state = State.STALE
    else:
        state = State.EXPIRING if any(each.note for each in items) else State.HEALTHY
    return Workload(
        Kind.POD,
        first.namespace,
        first.pod,
        first.class_name,
        _vaults(classes, first.namespace, first.class_name),
        first.node,
        state,
        first.problem,
        first.refreshed_at,
        items,
    )


def _volume_note(row: ObjectRow, newest: ObjectRow | None) -> str:
    if newest is not None and row.refreshed_at is not None and row.version != newest.version:
        return f"older than in pod {newest.pod}"
    return "environment has an older version" if row.environment == OLD else ""


def _sync(
    sync: SecretSync, classes: Mapping[tuple[str, str], ClassFacts], now: datetime
) -> Workload:
    items = tuple(
        Item(each.id, each.version, _expiry_note(each.expires, now), each.expires)
        for each in sorted(sync.status.objects, key=lambda each: each.id)
    )
    state, problem = _sync_state(sync, items)
    return Workload(
        Kind.SYNC,
        sync.ref.namespace,
        sync.ref.name,
        sync.class_name,
        _vaults(classes, sync.ref.namespace, sync.class_name),
        "",
        state,
        problem,
        sync.status.last_success,
        items,
    )


def _sync_state(sync: SecretSync, items: Iterable[Item]) -> tuple[State, str]:
    ready, problem = sync.status.condition(READY), sync_problem(sync)
    if ready is None:
        return State.PENDING, _NO_STATUS
    match ready.status:
        case ConditionStatus.FALSE:
            return State.FAILING, problem
        case ConditionStatus.UNKNOWN:
            return State.PENDING, problem
        case _:
            if problem == NOT_YET_HANDLED:
                return State.STALE, problem
            return (State.EXPIRING if any(each.note for each in items) else State.HEALTHY), ""


def _expiry_note(expires_at: datetime | None, now: datetime) -> str:
    if expires_at is None or expires_at - now > EXPIRES_SOON:
        return ""
    return "expired" if expires_at <= now else "expires soon"


def _vaults(
    classes: Mapping[tuple[str, str], ClassFacts], namespace: str, name: str
) -> tuple[str, ...]:
    found = classes.get((namespace, name))
    return found.vaults if found else ()
