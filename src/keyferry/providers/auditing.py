"""Writes the audit log of a mount call, whether it succeeds or fails."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from msgspec import Struct

from keyferry.accesses import AccessOutcome, ObjectAccess, VaultAccess
from keyferry.errors import KeyferryError
from keyferry.providers.known_fields.attributes import (
    POD_NAME,
    POD_NAMESPACE,
    POD_UID,
    SERVICE_ACCOUNT,
    SPC_ATTRIBUTE,
)
from keyferry.telemetry.audit_records import MOUNT, REFRESH, AuditedMount, AuditSubject

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from keyferry.aio.clock import Clock
    from keyferry.content import ObjectVersion
    from keyferry.providers.api import MountCall, MountResult
    from keyferry.telemetry.audit import AuditLog


def subject_of(call: MountCall, provider: str, *, is_refresh: bool) -> AuditSubject:
    """Return who reads, as kubelet describes the pod in the attributes of a call."""
    get = call.attributes.get
    return AuditSubject(
        REFRESH if is_refresh else MOUNT,
        get(POD_NAMESPACE, ""),
        get(POD_NAME, ""),
        get(POD_UID, ""),
        get(SERVICE_ACCOUNT, ""),
        get(SPC_ATTRIBUTE, ""),
        provider,
    )


class MountAudit(Struct):
    """What a mount has read so far.

    Attributes:
        result: the result of the provider; None before it.
    """

    result: MountResult | None = None

    def accesses(self, error: BaseException | None) -> tuple[VaultAccess, ...]:
        """Return the accesses, from the result or from the error of the provider."""
        if self.result is None:
            return error.accesses if isinstance(error, KeyferryError) else ()
        return self.result.accesses or (_reported_access(self.result.versions),)


def _reported_access(versions: Sequence[ObjectVersion]) -> VaultAccess:
    """Return what is known of a provider that reports no accesses: an external one."""
    objects = (
        ObjectAccess(
            version.id,
            AccessOutcome.DELIVERED,
            version=version.version,
            status_versions=((version.id, version.version),),
        )
        for version in versions
    )
    return VaultAccess("", (), tuple(objects))


@contextmanager
def audited(
    audit_log: AuditLog,
    subject: AuditSubject,
    previous: Sequence[ObjectVersion],
    *,
    clock: Clock,
) -> Iterator[MountAudit]:
    """Write the audit log of the mount in the block when the block ends or raises.

    Args:
        audit_log: the destination.
        subject: who reads.
        previous: the object versions that the volume has.
        clock: reads the time.
    """
    audit = MountAudit()
    error: BaseException | None = None
    try:
        yield audit
    except BaseException as raised:
        error = raised
        raise
    finally:
        accesses = audit.accesses(error)
        audit_log.write(AuditedMount(subject, clock.wall(), accesses, error, previous))
