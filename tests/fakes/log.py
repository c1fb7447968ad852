"""Captures the log of the process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO

from keyferry.telemetry.logs import configure_logs


@contextmanager
def captured_log(*, as_json: bool = False, verbosity: int = 0) -> Iterator[StringIO]:
    """Yield the log that is written while the block runs."""
    log = StringIO()
    configure_logs(as_json=as_json, verbosity=verbosity, stream=log)
    try:
        yield log
    finally:
        configure_logs(as_json=False, verbosity=0)
