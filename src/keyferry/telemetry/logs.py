"""Logs: one line an event on standard error, as text in the shape of klog or as JSON.

Upstream's tooling greps for lines that begin with `E`, and log pipelines know the JSON keys
`level`, `timestamp`, `caller` and `message`. What is logged are names, versions, durations and
stages: the callers hand over nothing else, and nothing in Keyferry logs a request or a file as a
whole. The keys are upstream's where it has one: `pod`, `spc`, `secret`, `targetPath`, `volumeId`,
`provider`; `stage`, `object` and `error` say where and why a call failed.

Source: docs/reference/upstream-driver.md#logs
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Pairs = dict[str, object]
    Render = Callable[["Level", str, str, Pairs], str]
    """Of the level, the caller, the message and the pairs, one line."""

_DEBUG_VERBOSITY = 2
_context: ContextVar[Mapping[str, object]] = ContextVar("log_context", default=MappingProxyType({}))


class Level(IntEnum):
    """How grave a line is."""

    DEBUG = 1
    INFO = 2
    WARNING = 3
    ERROR = 4
    OFF = 5
    """Graver than any line."""


_LETTERS = {Level.DEBUG: "I", Level.INFO: "I", Level.WARNING: "W", Level.ERROR: "E"}


class ObjectName(NamedTuple):
    """A Kubernetes object; `namespace/name` in text, both by their names in JSON, as in klog."""

    namespace: str
    name: str

    def __str__(self) -> str:
        """As kubectl writes it."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


def configure_logs(
    *, as_json: bool, verbosity: int, quiet: bool = False, stream: TextIO | None = None
) -> None:
    """Sets the process up once, in a composition root.

    Args:
        as_json: one JSON object a line instead of text.
        verbosity: klog's `-v`; 2 and more shows the details of each call.
        quiet: nothing at all, for commands that talk to a person themselves.
        stream: where to; standard error when left out.
    """
    level = Level.DEBUG if verbosity >= _DEBUG_VERBOSITY else Level.INFO
    _output.min_level = Level.OFF if quiet else level
    _output.render = _render_json if as_json else _render_text
    _output.stream = stream


@dataclass(slots=True)
class _Output:
    """Where the lines of this process go, and which, and how."""

    min_level: Level
    render: Render
    stream: TextIO | None = None
    """None: standard error, whatever that is then."""


@dataclass(frozen=True, slots=True)
class Logger:
    """Logs for one module of ours, which each line names.

    Every method takes what happened, always in the same words, and pairs that tell of this time.
    """

    caller: str

    def debug(self, message: str, **pairs: object) -> None:
        """A detail of a call."""
        self._log(Level.DEBUG, message, pairs)

    def info(self, message: str, **pairs: object) -> None:
        """What is as it should be."""
        self._log(Level.INFO, message, pairs)

    def warning(self, message: str, **pairs: object) -> None:
        """What somebody may want to look at."""
        self._log(Level.WARNING, message, pairs)

    def error(self, message: str, **pairs: object) -> None:
        """What failed."""
        self._log(Level.ERROR, message, pairs)

    def _log(self, level: Level, message: str, pairs: Pairs) -> None:
        if level >= _output.min_level:
            line = _output.render(level, self.caller, message, {**_context.get(), **pairs})
            stream = _output.stream or sys.stderr
            stream.write(f"{line}\n")  # at once, so that no other thread writes into it
            stream.flush()


def get_logger(caller: str) -> Logger:
    """A logger that names `caller`, a module of ours, in each line."""
    return Logger(caller)


@contextmanager
def log_context(**pairs: object) -> Iterator[None]:
    """Adds `pairs` to every line that is logged in the block, by the tasks begun in it too."""
    before = _context.set({**_context.get(), **pairs})
    try:
        yield
    finally:
        _context.reset(before)


def _render_text(level: Level, caller: str, message: str, pairs: Pairs) -> str:
    now = datetime.now(UTC)
    tail = "".join(f" {key}={json.dumps(str(value))}" for key, value in pairs.items())
    head = f"{_LETTERS[level]}{now:%m%d %H:%M:%S.%f} {os.getpid():7d} {caller}]"
    return f"{head} {json.dumps(message)}{tail}"


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


_output = _Output(Level.INFO, _render_text)
