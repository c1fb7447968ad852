"""What a diagnosis knows before the probe: the objects, the service account and its tokens."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from msgspec import Struct

from keyferry.doctor.checks import (
    Check,
    DoctorStage,
    Report,
    Status,
    failed,
    in_order,
    skipped,
)
from keyferry.doctor.tokens import token_checks
from keyferry.providers.registry import token_audiences

if TYPE_CHECKING:
    from collections.abc import Iterable

    from keyferry.doctor.outcomes import ExitCodeOf
    from keyferry.doctor.request import ProbeRequest
    from keyferry.errors import KeyferryError
    from keyferry.kubernetes.objects import SecretProviderClass


class Prepared(Struct, frozen=True):
    """A mount that can be probed, or the reason why not.

    Attributes:
        target: what is diagnosed.
        checks: those before the probe.
        request: for the probe; None if an earlier stage failed.
        node: the node of the pod; "" for none.
        reported: failures that Keyferry has reported in the cluster, in case that no check fails.
    """

    target: str
    checks: tuple[Check, ...]
    request: ProbeRequest | None = None
    node: str = ""
    reported: tuple[Check, ...] = ()

    def report(self, probed: Iterable[Check]) -> Report:
        """Return the report with the checks of the probe."""
        checks = [*self.checks, *probed]
        if not any(each.status is Status.FAILED for each in checks):
            known = {(each.stage, each.subject) for each in self.reported}
            checks = [each for each in checks if (each.stage, each.subject) not in known]
            checks += self.reported
        return Report(self.target, in_order(checks))


def stopped(
    target: str,
    stage: DoctorStage,
    subject: str,
    error: KeyferryError,
    *,
    exit_code: ExitCodeOf,
    before: Iterable[Check] = (),
) -> Prepared:
    """Return a target whose diagnosis ends at an early stage."""
    check = failed(stage, subject, error, exit_code=exit_code(error))
    reason = f"{stage} of {subject} failed"
    objects = skipped(DoctorStage.OBJECT, "all objects", reason)
    return Prepared(target, in_order([*before, check, objects]))


def checks_of_tokens(
    spc: SecretProviderClass, attribute: str, exit_code: ExitCodeOf
) -> list[Check]:
    """Return the checks of the tokens of a mount.

    Args:
        spc: the SecretProviderClass.
        attribute: the tokens as kubelet sends them; "" for none.
        exit_code: returns the exit code of an error.
    """
    audiences = token_audiences(spc)
    if audiences is None:
        return []  # a provider that is not built in
    return token_checks(attribute, audiences, now=time.time(), exit_code=exit_code)
