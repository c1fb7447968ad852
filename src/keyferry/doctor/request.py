"""What a probe needs to know about a mount, and its encoding as one line of JSON. [pure]

The encoding holds tokens and credentials, so it is sent only over the standard input of a process.
"""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - msgspec evaluates annotations
from dataclasses import dataclass, field

import msgspec
from msgspec import Struct

from keyferry.doctor.checks import Check
from keyferry.errors import RequestInvalidError
from keyferry.kubernetes.objects import SecretKeyMapping, SecretObject
from keyferry.secrets.builder import Definition

DEFAULT_SECONDS = 30.0
"""The default time limit of a diagnosis."""


class WantedSecret(Struct, frozen=True):
    """A Secret that is made from the files of a mount.

    Attributes:
        data: file and key of each entry.
    """

    name: str
    type: str
    data: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, secret_object: SecretObject) -> WantedSecret:
        """Return what `secretObjects` or a SecretSync define."""
        data = tuple((each.object_name, each.key) for each in secret_object.data)
        return cls(secret_object.name, secret_object.type, data)

    @property
    def secret_object(self) -> SecretObject:
        """The definition, without labels and annotations."""
        data = tuple(SecretKeyMapping(*each) for each in self.data)
        return SecretObject(self.name, self.type, data)


@dataclass(frozen=True, slots=True)
class ProbeRequest:
    """A mount to diagnose.

    Attributes:
        provider: `spec.provider` of the SecretProviderClass.
        parameters: `spec.parameters`.
        attributes: of the mount call.
        secrets: the data of the Secret with credentials; None without one.
        target_path: identifies the volume; nothing is mounted there.
        wanted_secrets: the Secrets that are made from the files.
        definition: what defines them.
        seconds: the time limit.
        not_mounted: why no object can be mounted, so that only the connections are checked; "" if
            they can.
        arguments: of the container in which the probe runs, for its flags. Empty on this machine.
    """

    provider: str
    parameters: Mapping[str, str] = field(repr=False)
    attributes: Mapping[str, str] = field(repr=False)
    secrets: Mapping[str, str] | None = field(default=None, repr=False)
    target_path: str = "/keyferry-doctor"
    wanted_secrets: tuple[WantedSecret, ...] = ()
    definition: Definition = Definition.SECRET_OBJECTS
    seconds: float = DEFAULT_SECONDS
    not_mounted: str = ""
    arguments: tuple[str, ...] = field(default=(), repr=False)


def encode_request(request: ProbeRequest) -> bytes:
    """Return a request as one line."""
    return msgspec.json.encode(request) + b"\n"


def decode_request(line: bytes) -> ProbeRequest:
    """Return the request in a line.

    Raises:
        RequestInvalidError: it is not one. The message does not quote it.
    """
    try:
        return msgspec.json.decode(line, type=ProbeRequest)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise RequestInvalidError(
            "standard input is not a probe request of this version of Keyferry",
            "Use the same version of Keyferry on both sides.",
        ) from None


def encode_checks(checks: tuple[Check, ...]) -> bytes:
    """Return the checks of a probe as one line."""
    return msgspec.json.encode(checks) + b"\n"


def decode_checks(output: bytes) -> tuple[Check, ...]:
    """Return the checks that a probe printed.

    Raises:
        RequestInvalidError: they are not. The message does not quote them.
    """
    try:
        return msgspec.json.decode(output, type=tuple[Check, ...])
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise RequestInvalidError(
            "the probe in the pod returned no report",
            "Use the same version of Keyferry here and in the cluster.",
        ) from None
