"""Logs: one line an event on standard error, as text in the shape of klog or as JSON.

Upstream's tooling greps for lines that begin with `E`, and log pipelines know the JSON keys
`level`, `timestamp`, `caller` and `message` (driver.md, section 6.2). What is logged are names,
versions, durations and hops: the callers hand over nothing else, and nothing in Keyferry logs a
request or a file as a whole. The keys are upstream's where it has one: `pod`, `spc`, `secret`,
`targetPath`, `volumeId`, `provider`; `hop`, `object` and `error` say where and why a call failed.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, TextIO

import structlog

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

_DETAILS = 2
_context: ContextVar[Mapping[str, object]] = ContextVar("log_context", default=MappingProxyType({}))
_LETTERS = {"debug": "I", "info": "I", "warning": "W", "error": "E", "critical": "F"}


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
    structlog.configure(
        processors=[
            _add_context,
            structlog.processors.add_log_level,
            _render_json if as_json else _render_text,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_level(verbosity, quiet=quiet)),
        logger_factory=structlog.WriteLoggerFactory(file=stream or sys.stderr),
        cache_logger_on_first_use=False,
    )


def _level(verbosity: int, *, quiet: bool) -> int:
    if quiet:
        return logging.CRITICAL
    return logging.DEBUG if verbosity >= _DETAILS else logging.INFO


def get_logger(caller: str) -> FilteringBoundLogger:
    """A logger that names `caller`, a module of ours, in each line."""
    logger: FilteringBoundLogger = structlog.get_logger(caller=caller)
    return logger


@contextmanager
def log_context(**pairs: object) -> Iterator[None]:
    """Adds `pairs` to every line that is logged in the block, by the tasks begun in it too."""
    before = _context.set({**_context.get(), **pairs})
    try:
        yield
    finally:
        _context.reset(before)


def _add_context(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    return {**_context.get(), **event}


def _render_text(_: WrappedLogger, __: str, event: EventDict) -> str:
    now = datetime.now(UTC)
    letter = _LETTERS.get(event.pop("level"), "I")
    caller, message = event.pop("caller", "keyferry"), event.pop("event")
    pairs = "".join(f" {key}={json.dumps(str(value))}" for key, value in event.items())
    head = f"{letter}{now:%m%d %H:%M:%S.%f} {os.getpid():7d} {caller}]"
    return f"{head} {json.dumps(str(message))}{pairs}"


def _render_json(_: WrappedLogger, __: str, event: EventDict) -> str:
    line = {
        "level": event.pop("level"),
        "timestamp": datetime.now(UTC).isoformat(timespec="microseconds"),
        "caller": event.pop("caller", "keyferry"),
        "message": str(event.pop("event")),
    }
    return json.dumps(line | {key: _json_value(value) for key, value in event.items()})


def _json_value(value: object) -> str | dict[str, str]:
    return value._asdict() if isinstance(value, ObjectName) else str(value)
