"""Flags as Go programs take them, so that arguments of existing manifests work.

One or two dashes; `--name=value` or `--name value`; a boolean is `--name` or `--name=false`, never
two words; of a repeated flag the last one counts; durations are written 30s, 2m, 1h30m.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, assert_never

from keyferry.formats.go_values import parse_boolean, parse_duration
from keyferry.telemetry.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_log = get_logger("flags")

FlagValue = bool | int | float | str

_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)")


class FlagKind(Enum):
    """The types that a flag can have."""

    BOOL = "bool"
    INT = "int"
    STRING = "string"
    DURATION = "duration"


@dataclass(frozen=True, slots=True)
class GoFlag:
    """One flag.

    Attributes:
        name: without dashes.
        default: as a person would write it.
        help: one sentence part.
        ignored_because: why the flag is accepted and then ignored with one warning; empty for flags
            that act.
    """

    name: str
    kind: FlagKind
    default: str
    help: str
    ignored_because: str = ""


class FlagError(ValueError):
    """The command line cannot be understood; the text says which flag and what it takes."""


@dataclass(frozen=True, slots=True)
class ParsedFlags:
    """What a command line says.

    Attributes:
        values: every flag of the table with its value or its default; durations in seconds.
        ignored: the flags that were given and have no meaning here, in their order.
        wants_help: `-h` or `--help` was given.
    """

    values: Mapping[str, FlagValue]
    ignored: tuple[GoFlag, ...]
    wants_help: bool = False


def parse_flags(arguments: Sequence[str], flags: Sequence[GoFlag]) -> ParsedFlags:
    """Reads `arguments` by the rules above.

    Raises:
        FlagError: an unknown flag, a value of the wrong type, a missing value, or a word that is no
            flag.
    """
    known = {flag.name: flag for flag in flags}
    values = {flag.name: read_value(flag, flag.default) for flag in flags}
    ignored: dict[str, GoFlag] = {}
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        name, separator, text = word.lstrip("-").partition("=")
        if not word.startswith("-") or word.startswith("---") or not name:
            raise FlagError(f"unexpected argument {word!r}: only flags are taken here")
        if name in ("h", "help"):
            return ParsedFlags(values, (), wants_help=True)
        if name not in known:
            raise FlagError(f"flag provided but not defined: -{name}")
        flag = known[name]
        if not separator:
            text = "true" if flag.kind is FlagKind.BOOL else _next_argument(rest, flag)
        values[name] = read_value(flag, text)
        if flag.ignored_because:
            ignored[name] = flag
    return ParsedFlags(values, tuple(ignored.values()))


def read_value(flag: GoFlag, text: str) -> FlagValue:
    """What `text` means as the value of `flag`.

    Raises:
        FlagError: it is of another type.
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
    """One line a flag that acts, then the names of those that are accepted without meaning."""
    lines = [
        f"  --{flag.name:<34} {flag.help}" + (f" (default {flag.default})" if flag.default else "")
        for flag in flags
        if not flag.ignored_because
    ]
    silent = [f"--{flag.name}" for flag in flags if flag.ignored_because]
    if silent:
        lines += ["", "Accepted for compatibility, without effect: " + ", ".join(silent) + "."]
    return "\n".join(lines)


def warn_ignored(flags: ParsedFlags) -> None:
    """Logs one warning a flag that was given and has no meaning here."""
    for flag in flags.ignored:
        _log.warning("a flag has no effect", flag=f"--{flag.name}", why=flag.ignored_because)


def _next_argument(rest: list[str], flag: GoFlag) -> str:
    if not rest:
        raise FlagError(f"flag needs an argument: -{flag.name}")
    return rest.pop(0)


def _parse_int(text: str) -> int:
    if not _INT.fullmatch(text):
        raise ValueError("write a whole number")
    return int(text)


def _parse_bool(text: str) -> bool:
    value = parse_boolean(text)
    if value is None:
        raise ValueError("write true or false")
    return value
