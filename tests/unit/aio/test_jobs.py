"""keyferry.aio.jobs: parse jobs in threads."""

from __future__ import annotations

import threading

import msgspec
import pytest

from keyferry.aio.jobs import ParseJob, ThreadJobRunner
from keyferry.errors import SecretDataError
from keyferry.providers.registry import PROVIDERS
from keyferry.secrets.jobs import SECRET_DATA


def _thread_name(_argument: str) -> str:
    return threading.current_thread().name


def _refuse(argument: str) -> str:
    raise SecretDataError(f"{argument} is refused")


async def test_job_runs_in_a_thread_of_the_runner() -> None:
    """Work on volumes uses the default executor, which a slow job must not occupy."""
    job = ParseJob("thread", _thread_name, str, str)
    assert (await ThreadJobRunner().run(job, "x", tenant="a")).startswith("parse")


async def test_error_of_a_job_is_raised() -> None:
    """The caller adds the context."""
    job = ParseJob("refuse", _refuse, str, str)
    with pytest.raises(SecretDataError, match="x is refused"):
        await ThreadJobRunner().run(job, "x", tenant="a")


def test_names_of_jobs_are_unique_and_their_types_can_be_encoded() -> None:
    """Another process finds a job by its name, and decodes its argument by type."""
    jobs = [SECRET_DATA, *(job for row in PROVIDERS for job in row.jobs())]
    by_name = {job.name: job for job in jobs}
    for job in jobs:
        assert by_name[job.name] is job
        msgspec.msgpack.Decoder(job.argument_type)
        msgspec.msgpack.Decoder(job.result_type)
