"""Command line flags with the syntax of Go, so that arguments of existing manifests work.

A flag has one or two dashes and is written `--name=value` or `--name value`. A boolean is `--name`
or `--name=false`, never two words. The last of repeated flags wins. Durations are 30s, 2m, 1h30m.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import TYPE_CHECKING, assert_never

from msgspec import Struct

from keyferry.formats.go_values import parse_boolean, parse_duration
from keyferry.formats.unknown_fields import FieldTable
from keyferry.telemetry.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_log = get_logger("flags")

FlagValue = bool | int | float | str

_MAX_SHOWN = 100
"""Characters of an unknown flag in a message."""
_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)")


class FlagKind(Enum):
    """The type of a flag."""

    BOOL = "bool"
    INT = "int"
    STRING = "string"
    DURATION = "duration"


class GoFlag(Struct, frozen=True):
    """One flag.

    Attributes:
        name: without dashes.
        default: the default value, as a user writes it.
        help: a phrase without a final period.
        ignored_because: why the flag has no effect; empty for a flag that has one.
    """

    name: str
    kind: FlagKind
    default: str
    help: str
    ignored_because: str = ""


class FlagError(ValueError):
    """The command line is invalid; the message names the flag and what it accepts."""


class ParsedFlags(Struct, frozen=True):
    """A parsed command line.

    Attributes:
        values: the value or the default of each flag, by name; durations in seconds.
        ignored: the flags on the command line that have no effect, in order.
        wants_help: whether `-h` or `--help` is present.
    """

    values: Mapping[str, FlagValue]
    ignored: tuple[GoFlag, ...]
    wants_help: bool = False


def parse_flags(arguments: Sequence[str], flags: Sequence[GoFlag]) -> ParsedFlags:
    """Parse a command line.

    Args:
        arguments: the words after the command.
        flags: the flags that the command accepts.

    Raises:
        FlagError: a flag is unknown, a value is missing or invalid, or a word is not a flag.
    """
    known = {flag.name: flag for flag in flags}
    values = {flag.name: read_value(flag, flag.default) for flag in flags}
    ignored: dict[str, GoFlag] = {}
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        name, separator, text = word.lstrip("-").partition("=")
        if not word.startswith("-") or word.startswith("---") or not name:
            raise FlagError(f"unexpected argument {word!r}: this command accepts only flags")
        if name in ("h", "help"):
            return ParsedFlags(values, (), wants_help=True)
        if name not in known:
            meant = FieldTable(known).suggest(name, ())
            hint = f"; did you mean --{meant}?" if meant else ""
            raise FlagError(f"flag provided but not defined: -{name[:_MAX_SHOWN]}{hint}")
        flag = known[name]
        if not separator:
            text = "true" if flag.kind is FlagKind.BOOL else _next_argument(rest, flag)
        values[name] = read_value(flag, text)
        if flag.ignored_because:
            ignored[name] = flag
    return ParsedFlags(values, tuple(ignored.values()))


def read_value(flag: GoFlag, text: str) -> FlagValue:
    """Parse `text` as the value of `flag`.

    Raises:
        FlagError: the value does not have the type of the flag.
    """
    try:
        match flag.kind:
            case FlagKind.BOOL:
                return _parse_bool(text)
            case FlagKind.INT:
                return _parse_int(text)
            case FlagKind.STRING:
                return text
            case FlagKind.DURATION:
                return parse_duration(text)
            case _:
                assert_never(flag.kind)
    except ValueError as error:
        raise FlagError(f"invalid value {text!r} for flag -{flag.name}: {error}") from error


def help_text(flags: Sequence[GoFlag]) -> str:
    """Return name, type and help of each flag, then the names of flags that have no effect."""
    lines = [_help_line(flag) for flag in flags if not flag.ignored_because]
    ignored = [f"--{flag.name}" for flag in flags if flag.ignored_because]
    if ignored:
        lines += ["", "Accepted for compatibility, without effect: " + ", ".join(ignored) + "."]
    return "\n".join(lines)


def _help_line(flag: GoFlag) -> str:
    kind = "" if flag.kind is FlagKind.BOOL else f" {flag.kind.value}"
    label = f"  --{flag.name}{kind}"
    default = f" (default {flag.default})" if flag.default else ""
    gap = " " * (_HELP_COLUMN - len(label)) if len(label) < _HELP_COLUMN else f"\n{_HELP_INDENT}"
    return f"{label}{gap}{flag.help}{default}"


_HELP_COLUMN = 36
_HELP_INDENT = " " * _HELP_COLUMN


def completions(flags: Sequence[GoFlag]) -> list[tuple[str, str]]:
    """Return name and help of each flag that has an effect, for a shell."""
    return [(flag.name, flag.help) for flag in flags if not flag.ignored_because]


def warn_ignored(flags: ParsedFlags) -> None:
    """Log a warning for each flag on the command line that has no effect."""
    for flag in flags.ignored:
        _log.warning("flag has no effect", flag=f"--{flag.name}", why=flag.ignored_because)


def _next_argument(rest: list[str], flag: GoFlag) -> str:
    if not rest:
        raise FlagError(f"flag needs an argument: -{flag.name}")
    return rest.pop(0)


def _parse_int(text: str) -> int:
    if not _INT.fullmatch(text):
        raise ValueError("must be an integer")
    return int(text)


def _parse_bool(text: str) -> bool:
    value = parse_boolean(text)
    if value is None:
        raise ValueError("must be true or false")
    return value
