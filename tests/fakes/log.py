"""What the process logs, kept to be looked at."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO

from keyferry.telemetry.logs import configure_logs


@contextmanager
def captured_log(*, as_json: bool = False, verbosity: int = 0) -> Iterator[StringIO]:
    """The log of the block."""
    log = StringIO()
    configure_logs(as_json=as_json, verbosity=verbosity, stream=log)
    try:
        yield log
    finally:
        configure_logs(as_json=False, verbosity=0)
