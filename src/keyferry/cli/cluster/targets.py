"""The argument `TYPE/NAME` of commands, as kubectl has it."""

from __future__ import annotations

from enum import StrEnum

import click
from msgspec import Struct


class TargetKind(StrEnum):
    """The kinds of objects that commands name; the value is that of messages."""

    POD = "pod"
    CLASS = "secretproviderclass"
    SYNC = "secretsync"
    SECRET = "secret"  # noqa: S105 - the name of a kind


_KINDS = {
    **dict.fromkeys(("pod", "pods", "po"), TargetKind.POD),
    **dict.fromkeys(("secretproviderclass", "secretproviderclasses", "spc"), TargetKind.CLASS),
    **dict.fromkeys(("secretsync", "secretsyncs", "ssync"), TargetKind.SYNC),
    **dict.fromkeys(("secret", "secrets"), TargetKind.SECRET),
}


class Target(Struct, frozen=True):
    """The object that a command names."""

    kind: TargetKind
    name: str

    def __str__(self) -> str:
        """Return `secretsync/web`, as kubectl names an object."""
        return f"{self.kind}/{self.name}"


def parse_target(text: str, default: TargetKind, *kinds: TargetKind) -> Target:
    """Return the object that `NAME` or `TYPE/NAME` means.

    Args:
        text: the argument.
        default: the kind of a name without a type.
        kinds: the other permitted kinds.

    Raises:
        click.UsageError: it has another type, or no name.
    """
    type_, slash, name = text.rpartition("/")
    kind = _KINDS.get(type_.lower()) if slash else default
    permitted = (default, *kinds)
    if kind not in permitted or not name:
        types = ", ".join(f"{each}/NAME" for each in permitted)
        raise click.UsageError(f"{text!r} is not the name of an object: write {types}")
    return Target(kind, name)
