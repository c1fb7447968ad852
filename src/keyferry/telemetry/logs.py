"""Logs: one line per event on standard error, as text in klog's format or as JSON.

Upstream's tooling greps for lines that begin with `E`, and log pipelines expect the JSON keys
`level`, `timestamp`, `caller` and `message`. Keyferry logs names, versions, durations and stages;
it never logs a request or a file. The keys are upstream's where it has one: `pod`, `spc`,
`secret`, `targetPath`, `volumeId`, `provider`. `stage`, `object` and `error` say where and why a
call failed.

Source: docs/reference/upstream-driver.md#logs
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from enum import IntEnum
from json.encoder import encode_basestring_ascii as _quoted
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, TextIO

from msgspec import Struct, field

from keyferry.formats.bounded_dict import BoundedDict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    Pairs = dict[str, object]
    Render = Callable[["Level", str, str, Pairs], str]
    """Formats level, caller, message and pairs as one line."""

_DEBUG_VERBOSITY = 2
_MAX_LOGGED_ONCE = 1000
_NO_PAIRS: Mapping[str, object] = MappingProxyType({})
_context: ContextVar[Callable[[], Mapping[str, object]]] = ContextVar(
    "log_context", default=lambda: _NO_PAIRS
)


class Level(IntEnum):
    """Severity of a log line."""

    DEBUG = 1
    INFO = 2
    WARNING = 3
    ERROR = 4
    OFF = 5
    """Higher than every line; logs nothing."""


_LETTERS = {Level.DEBUG: "I", Level.INFO: "I", Level.WARNING: "W", Level.ERROR: "E"}


class ObjectName(NamedTuple):
    """Name of a Kubernetes object: `namespace/name` in text, an object in JSON, as in klog."""

    namespace: str
    name: str

    def __str__(self) -> str:
        """Return `namespace/name`, or the name of a cluster-scoped object."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


def configure_logs(
    *, as_json: bool, verbosity: int, quiet: bool = False, stream: TextIO | None = None
) -> None:
    """Configure the logs of the process; called once, by a composition root.

    Args:
        as_json: write one JSON object per line instead of text.
        verbosity: klog's `-v`; 2 or more logs the details of each call.
        quiet: log nothing, for commands that print to the user.
        stream: destination; standard error if None.
    """
    level = Level.DEBUG if verbosity >= _DEBUG_VERBOSITY else Level.INFO
    _output.min_level = Level.OFF if quiet else level
    _output.render = _render_json if as_json else _render_text
    _output.stream = stream
    _output.logged_once.clear()


class _Output(Struct):
    """Destination, minimum level and format of the log of this process."""

    min_level: Level
    render: Render
    stream: TextIO | None = None
    """None: `sys.stderr` at the time of the line."""
    logged_once: BoundedDict[object, None] = field(
        default_factory=lambda: BoundedDict(_MAX_LOGGED_ONCE)
    )
    """What `Logger.warning_once` has logged."""


class Logger(Struct, frozen=True):
    """Logger of one Keyferry module, which each line names as `caller`.

    Each method takes a constant message and the variable parts as key-value pairs.
    """

    caller: str

    def debug(self, message: str, **pairs: object) -> None:
        """Log a detail of a call."""
        self._log(Level.DEBUG, message, pairs)

    def info(self, message: str, **pairs: object) -> None:
        """Log an expected event."""
        self._log(Level.INFO, message, pairs)

    def warning(self, message: str, **pairs: object) -> None:
        """Log an event that an operator may need to check."""
        self._log(Level.WARNING, message, pairs)

    def warning_once(self, message: str, **pairs: object) -> None:
        """Log a lasting condition once for the same pairs, however often it is met.

        The pairs of `log_context` do not count: the line names the call that met it first.
        """
        key = (self.caller, message, tuple((name, str(pairs[name])) for name in sorted(pairs)))
        if key not in _output.logged_once:
            _output.logged_once[key] = None
            self._log(Level.WARNING, message, pairs)

    def error(self, message: str, **pairs: object) -> None:
        """Log a failure."""
        self._log(Level.ERROR, message, pairs)

    def info_records(self, message: str, common: Pairs, records: Iterable[Pairs]) -> None:
        """Log one line for each of `records`, which begins with the pairs of `common`.

        The lines are written at once. They do not contain the pairs of `log_context`. A value may
        be a mapping: JSON nests it, and text joins its keys with a dot.
        """
        self._log_records(Level.INFO, message, common, records)

    def debug_records(self, message: str, common: Pairs, records: Iterable[Pairs]) -> None:
        """Do what `info_records` does, for details of a call."""
        self._log_records(Level.DEBUG, message, common, records)

    def _log_records(
        self, level: Level, message: str, common: Pairs, records: Iterable[Pairs]
    ) -> None:
        if level < _output.min_level:
            return
        if _output.render is _render_json:
            head = {"level": level.name.lower(), "caller": self.caller, "message": message}
            text = json_lines(head | common, records)
        else:
            start = f"{_text_head(level, self.caller)} {json.dumps(message)}"
            start += _text_pairs({key: common[key] for key in common if key != "timestamp"})
            text = "".join(f"{start}{_text_pairs(record)}\n" for record in records)
        _write(text)

    def _log(self, level: Level, message: str, pairs: Pairs) -> None:
        if level >= _output.min_level:
            line = _output.render(level, self.caller, message, {**_context.get()(), **pairs})
            _write(f"{line}\n")


def get_logger(caller: str) -> Logger:
    """Return a logger whose lines name the module `caller`."""
    return Logger(caller)


def current_log_context() -> dict[str, object]:
    """Return the pairs that `log_context` adds to lines now."""
    return dict(_context.get()())


@contextmanager
def log_context(**pairs: object) -> Iterator[None]:
    """Add `pairs` to each line that the block logs, including the tasks that it starts."""
    merged = {**_context.get()(), **pairs}
    with lazy_log_context(lambda: merged):
        yield


@contextmanager
def lazy_log_context(pairs: Callable[[], Mapping[str, object]]) -> Iterator[None]:
    """Use only what `pairs` returns for each line that the block logs.

    It is called for each line, so a call that logs nothing costs nothing.
    """
    before = _context.set(pairs)
    try:
        yield
    finally:
        _context.reset(before)


def _render_text(level: Level, caller: str, message: str, pairs: Pairs) -> str:
    tail = "".join(f" {key}={json.dumps(str(value))}" for key, value in pairs.items())
    return f"{_text_head(level, caller)} {json.dumps(message)}{tail}"


def _text_head(level: Level, caller: str) -> str:
    now = datetime.now(UTC)
    return f"{_LETTERS[level]}{now:%m%d %H:%M:%S.%f} {os.getpid():7d} {caller}]"


def _render_json(level: Level, caller: str, message: str, pairs: Pairs) -> str:
    line = {
        "level": level.name.lower(),
        "timestamp": datetime.now(UTC).isoformat(timespec="microseconds"),
        "caller": caller,
        "message": message,
    }
    return json.dumps(line | {key: _json_value(value) for key, value in pairs.items()})


def _json_value(value: object) -> str | dict[str, str]:
    return value._asdict() if isinstance(value, ObjectName) else str(value)


def _write(lines: str) -> None:
    stream = _output.stream or sys.stderr
    stream.write(lines)  # in one call, so that no other thread writes between
    stream.flush()


# --- Records: lines with common and nested pairs, many at once ------------------------------------


def json_lines(common: Pairs, records: Iterable[Pairs]) -> str:
    """Return one line of JSON for each of `records`, which begins with the pairs of `common`.

    A record is not nested, so that it needs no JSON encoder, which takes three times as long.
    """
    start = json.dumps(common)[:-1]
    return "".join(f"{start}, {_flat_json(record)}}}\n" for record in records)


def _flat_json(pairs: Pairs) -> str:
    return ", ".join([f'"{key}": {_json_scalar(value)}' for key, value in pairs.items()])


def _json_scalar(value: object) -> str:
    return _quoted(value) if isinstance(value, str) else json.dumps(value)


def _text_pairs(pairs: Mapping[str, object], prefix: str = "") -> str:
    """Return pairs as text; a namespace with a name is one value, as in `ObjectName`."""
    text = ""
    for key, value in pairs.items():
        if isinstance(value, str):
            text += f" {prefix}{key}={_quoted(value)}"
        elif not isinstance(value, dict):
            text += f' {prefix}{key}="{value}"'
        elif value.keys() == {"namespace", "name"}:
            text += f" {prefix}{key}={_quoted(str(ObjectName(**value)))}"
        else:
            text += _text_pairs(value, f"{prefix}{key}.")
    return text


_output = _Output(Level.INFO, _render_text)
