"""Decides which stage of a mount an error belongs to. [pure]

The type and the stage of an error decide, never its text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from keyferry.doctor.checks import DoctorStage
from keyferry.errors import (
    AccessDeniedError,
    ClassInvalidError,
    ConnectionFailedError,
    Denial,
    IdentityError,
    KeyferryError,
    ObjectUnusableError,
    Stage,
)

if TYPE_CHECKING:
    from keyferry.providers.sources.diagnosis import DiagnosedSource

NETWORK = (DoctorStage.DNS, DoctorStage.PROXY, DoctorStage.TCP, DoctorStage.TLS)
STAGES_OF_ERRORS = {
    Stage.DNS: DoctorStage.DNS,
    Stage.CONNECT: DoctorStage.TCP,
    Stage.TLS: DoctorStage.TLS,
    Stage.IDENTITY: DoctorStage.VAULT,
    Stage.VAULT: DoctorStage.VAULT,
    Stage.OBJECT: DoctorStage.OBJECT,
    Stage.VOLUME: DoctorStage.RENDERING,
    Stage.SECRET: DoctorStage.SECRET,
}
"""By the stage of an error whose type says no more."""
_DENIALS = {
    Denial.TOKEN: DoctorStage.LOGIN,
    Denial.NETWORK: DoctorStage.FIREWALL,
    Denial.ROLE: DoctorStage.PERMISSION,
    Denial.POLICY: DoctorStage.PERMISSION,
}
_OF_VAULTS = (DoctorStage.VAULT, DoctorStage.LOGIN, DoctorStage.FIREWALL)
"""The stages whose subject is a vault."""


class NotMountedError(KeyferryError):
    """An object was not mounted; the problem says why."""


class Place(Struct, frozen=True):
    """A stage and its subject.

    Attributes:
        reason: why later stages are skipped, if it is not that this one failed.
    """

    stage: DoctorStage
    subject: str
    reason: str = ""

    def __str__(self) -> str:
        """Return the reason of skipped checks."""
        return self.reason or f"{self.stage} of {self.subject} failed"


def place_of(
    error: KeyferryError, entry: str, source: DiagnosedSource, *, proxied: bool = False
) -> Place:
    """Return the stage that an error of a mount belongs to, and its subject.

    Args:
        error: of the mount.
        entry: the name of the entry, or of the volume.
        source: of the entry.
        proxied: whether a proxy applies to the host of the error.
    """
    stage = _stage_of(error, has_token_endpoint=source.token is not None)
    token = source.token.name if source.token else ""
    if stage is DoctorStage.DNS and proxied:
        stage = DoctorStage.PROXY
    subject = entry
    if stage in NETWORK:
        subject = token if token and host_of(error) == token else source.vault.name
    elif stage is DoctorStage.TOKEN_ENDPOINT:
        subject = token
    elif stage is DoctorStage.TOKEN:
        subject = "service account"
    elif stage in _OF_VAULTS or _is_forbidden_address(error):
        subject = source.vault.name
    return Place(stage, subject)


def _stage_of(  # noqa: PLR0911 - one for each kind of error
    error: KeyferryError, *, has_token_endpoint: bool
) -> DoctorStage:
    match error:
        case IdentityError(lacks_token=True):
            return DoctorStage.TOKEN
        case IdentityError():
            return DoctorStage.TOKEN_ENDPOINT if has_token_endpoint else DoctorStage.LOGIN
        case AccessDeniedError():
            return _DENIALS[error.denial]
        case ObjectUnusableError():
            return DoctorStage.RENDERING
        case _ if _is_forbidden_address(error):
            return DoctorStage.PARAMETERS
        case _ if error.stage is Stage.IDENTITY and has_token_endpoint:
            return DoctorStage.TOKEN_ENDPOINT
        case _:
            return STAGES_OF_ERRORS.get(error.stage, DoctorStage.PARAMETERS)


def _is_forbidden_address(error: KeyferryError) -> bool:
    """Return whether a SecretProviderClass names an address that it may not name."""
    return isinstance(error, ClassInvalidError) and error.stage is Stage.CONNECT


def host_of(error: KeyferryError) -> str:
    """Return the host of a failed connection, as messages name it; "" if it is not known."""
    return error.host if isinstance(error, ConnectionFailedError) else ""
