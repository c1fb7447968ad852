"""What `keyferry doctor` reports: one check for each stage and subject. [pure]

No field contains the value of a secret or a token.
"""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - msgspec evaluates annotations
from enum import StrEnum
from typing import TYPE_CHECKING

from msgspec import Struct, field

if TYPE_CHECKING:
    from keyferry.errors import KeyferryError


class DoctorStage(StrEnum):
    """The stages of a mount, in order."""

    CLASS = "class"
    """The SecretProviderClass, or the SecretSync, exists and can be read."""
    PARAMETERS = "parameters"
    SERVICE_ACCOUNT = "service-account"
    CREDENTIALS = "credentials"
    """The Secret that `nodePublishSecretRef` or a SecretSync names."""
    TOKEN = "token"  # noqa: S105 - the name of a stage
    """The service-account token."""
    DNS = "dns"
    PROXY = "proxy"
    TCP = "tcp"
    TLS = "tls"
    TOKEN_ENDPOINT = "token-endpoint"  # noqa: S105 - the name of a stage
    """Entra, IMDS or another service issues an access token."""
    VAULT = "vault"
    """The vault serves requests."""
    LOGIN = "vault-auth"
    """The vault accepts the access token, or logs the identity in."""
    FIREWALL = "firewall"
    """The vault permits the network of the request."""
    PERMISSION = "permission"
    """A role or a policy permits to read the object."""
    OBJECT = "object"
    RENDERING = "rendering"
    """The files of the volume can be made."""
    SECRET = "secret"  # noqa: S105 - the name of a stage
    """The Kubernetes Secret can be made from the files."""
    ENVIRONMENT = "environment"
    """Environment variables from Secrets have their current values."""


STAGES = tuple(DoctorStage)


class Status(StrEnum):
    """The result of a check."""

    OK = "ok"
    FAILED = "failed"
    SKIPPED = "skipped"


class Check(Struct, frozen=True):
    """The result of one stage for one subject.

    Attributes:
        stage: what was checked.
        subject: the host, the object or the Kubernetes object.
        status: the result.
        facts: names, addresses, versions and times, by words.
        problem: what failed and why, or why the check was skipped; "" if it is ok.
        remedy: what to do about it; "" if there is nothing to do.
        exit_code: that of `keyferry mount` for the failure; 0 if it did not fail.
    """

    stage: DoctorStage
    subject: str
    status: Status
    facts: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""
    remedy: str = ""
    exit_code: int = 0


def ok(stage: DoctorStage, subject: str, facts: Mapping[str, str] | None = None) -> Check:
    """Return a check that succeeded."""
    return Check(stage, subject, Status.OK, facts or {})


def skipped(stage: DoctorStage, subject: str, reason: str, remedy: str = "") -> Check:
    """Return a check that was not made.

    Args:
        stage: what was not checked.
        subject: of the check.
        reason: why, a clause.
        remedy: what makes it possible; "" if the reason shows it.
    """
    return Check(stage, subject, Status.SKIPPED, problem=reason, remedy=remedy)


def failed(
    stage: DoctorStage,
    subject: str,
    error: KeyferryError,
    *,
    exit_code: int,
    facts: Mapping[str, str] | None = None,
    fix: str = "",
) -> Check:
    """Return a check that failed.

    Args:
        stage: what was checked.
        subject: of the check.
        error: the error of a mount.
        exit_code: that of `keyferry mount` for the error.
        facts: what is known nevertheless.
        fix: a command, in addition to the remedy of the error.
    """
    problem = error.problem.rstrip().removesuffix(".")
    if error.detail:
        problem = f"{problem} ({error.detail})"
    remedy = f"{error.remedy} Create it: {fix}".strip() if fix else error.remedy
    return Check(stage, subject, Status.FAILED, facts or {}, problem, remedy, exit_code)


class Report(Struct, frozen=True):
    """The checks of one volume or one SecretSync.

    Attributes:
        target: what was diagnosed, as kubectl names it, or the file.
        checks: in the order of the stages.
    """

    target: str
    checks: tuple[Check, ...]

    @property
    def broken(self) -> Check | None:
        """The first check that failed; None if none did."""
        return next((each for each in self.checks if each.status is Status.FAILED), None)

    @property
    def is_complete(self) -> bool:
        """Whether everything was checked up to the content: nothing failed, and objects are ok."""
        return self.broken is None and any(
            each.stage is DoctorStage.RENDERING and each.status is Status.OK for each in self.checks
        )


def in_order(checks: list[Check]) -> tuple[Check, ...]:
    """Return checks in the order of their stages; those of one stage keep their order."""
    return tuple(sorted(checks, key=lambda each: STAGES.index(each.stage)))
