"""A runner of parse jobs that encodes everything, as another process would need it."""

from __future__ import annotations

import asyncio
from typing import TypeVar

import msgspec

from keyferry.aio.jobs import ParseJob
from keyferry.errors import KeyferryError

A = TypeVar("A")
R = TypeVar("R")


class RecordingJobRunner:
    """Implements `JobRunner`.

    Args:
        error: raised instead of running a job, as if it exceeded a limit.

    Attributes:
        runs: the name and tenant of each job.
    """

    def __init__(self, error: KeyferryError | None = None) -> None:
        self.error = error
        self.runs: list[tuple[str, str]] = []

    async def run(self, job: ParseJob[A, R], argument: A, *, tenant: str) -> R:
        """Run the job on a decoded copy of its argument; return a decoded copy of its result."""
        self.runs.append((job.name, tenant))
        if self.error is not None:
            raise self.error
        sent = msgspec.msgpack.decode(msgspec.msgpack.encode(argument), type=job.argument_type)
        result = await asyncio.to_thread(job.function, sent)
        return msgspec.msgpack.decode(msgspec.msgpack.encode(result), type=job.result_type)
