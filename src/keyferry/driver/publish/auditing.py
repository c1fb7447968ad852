"""Reports to the audit log what a delivery read from a vault."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keyferry.accesses import AccessOutcome, ObjectAccess, VaultAccess
from keyferry.errors import KeyferryError
from keyferry.providers.api import SERVICE_ACCOUNT
from keyferry.resilience.call_context import Purpose
from keyferry.telemetry.audit_records import MOUNT, REFRESH, AuditedMount, AuditSubject

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from keyferry.aio.clock import Clock
    from keyferry.content import ObjectVersion
    from keyferry.driver.request import PublishRequest
    from keyferry.providers.api import MountResult
    from keyferry.telemetry.audit import AuditLog


@dataclass(slots=True)
class DeliveryAudit:
    """What a delivery has read so far.

    Attributes:
        result: the answer of the provider; None before it.
    """

    result: MountResult | None = None

    def accesses(self, error: BaseException | None) -> tuple[VaultAccess, ...]:
        """Return the accesses, from the result or from the error of the provider.

        An external provider reports only object versions.
        """
        if self.result is None:
            return error.accesses if isinstance(error, KeyferryError) else ()
        return self.result.accesses or (_reported_access(self.result.versions),)


def _reported_access(versions: Sequence[ObjectVersion]) -> VaultAccess:
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
def audited_delivery(
    audit_log: AuditLog,
    request: PublishRequest,
    provider: str,
    purpose: Purpose,
    previous: Sequence[ObjectVersion],
    *,
    clock: Clock,
) -> Iterator[DeliveryAudit]:
    """Write the audit log of the delivery that the block does, whether it succeeds or raises.

    Args:
        audit_log: the destination.
        request: the publish request; kubelet names the pod and its service account.
        provider: the name of the provider.
        purpose: first mount or refresh.
        previous: the object versions that the volume has.
        clock: reads the time.
    """
    audit = DeliveryAudit()
    error: BaseException | None = None
    try:
        yield audit
    except BaseException as raised:
        error = raised
        raise
    finally:
        subject = AuditSubject(
            REFRESH if purpose is Purpose.REFRESH else MOUNT,
            request.pod.namespace,
            request.pod.name,
            request.pod.uid,
            request.context.get(SERVICE_ACCOUNT, ""),
            request.class_name,
            provider,
        )
        audit_log.write(AuditedMount(subject, clock.wall(), audit.accesses(error), error, previous))
