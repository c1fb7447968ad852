"""Parse jobs: pure functions that read bytes of a tenant, run apart from the event loop.

A `ParseJob` names the function; a `JobRunner` decides where it runs. With `--isolation=process`
that is another process, so msgspec must be able to encode argument and result by their types.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Callable

A = TypeVar("A")
R = TypeVar("R")

MAX_THREADS = 2


class ParseJob(Struct, Generic[A, R], frozen=True):
    """A pure function that may run in another process.

    Attributes:
        name: identifies the job among all jobs of the program.
        function: depends on its argument only, and raises only errors of Keyferry.
        argument_type: the type of the argument, for msgspec.
        result_type: the type of the result, for msgspec.
        limit_problem: what the job could not do when it exceeded a limit; its reason follows.
        limit_remedy: what to do then.
    """

    name: str
    function: Callable[[A], R]
    argument_type: type[A]
    result_type: type[R]
    limit_problem: str = "the key material cannot be read safely"
    limit_remedy: str = (
        "Replace the key or certificate by one with at most 8192 bits, and a PKCS#12 file by one "
        "with a usual iteration count."
    )


class JobRunner(Protocol):
    """Runs parse jobs."""

    async def run(self, job: ParseJob[A, R], argument: A, *, tenant: str) -> R:
        """Run one job and return its result.

        Args:
            job: the job.
            argument: its argument.
            tenant: the namespace whose data is parsed; jobs of tenants take turns. "" outside a
                cluster.

        Raises:
            KeyferryError: what the function raised, or the job exceeded a limit.
        """


class ThreadJobRunner:
    """Runs parse jobs in threads of this process, for `--isolation=none` and for tests.

    The threads are its own: a job that takes long delays other jobs, but not the work on volumes,
    which uses the default executor. There is no limit on CPU time.
    """

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="parse")

    async def run(self, job: ParseJob[A, R], argument: A, *, tenant: str) -> R:
        """Implement `JobRunner`; tenants do not take turns."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, job.function, argument)
