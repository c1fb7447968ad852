"""The data of a Secret, of which some are parsed in a parse job."""

from __future__ import annotations

from typing import TYPE_CHECKING

# `secret_data` imports these on use. A parser is forked with them, so that all share their memory.
import keyferry.formats.certs.tls
import keyferry.secrets.pull_secrets  # noqa: F401
from keyferry.aio.jobs import ParseJob
from keyferry.secrets.secret_data import SecretDataRequest, secret_data

if TYPE_CHECKING:
    from keyferry.aio.jobs import JobRunner

SECRET_DATA = ParseJob("secret-data", secret_data, SecretDataRequest, dict[str, bytes])
"""Validates and converts the data of a Secret whose type requires a format."""


async def data_of(request: SecretDataRequest, jobs: JobRunner, *, tenant: str) -> dict[str, bytes]:
    """Return the data of a Secret.

    Args:
        request: its files.
        jobs: runs the job, if its type requires a format.
        tenant: the namespace.

    Raises:
        SecretDataError: the files do not fit the type.
    """
    if not request.is_parsed:
        return request.verbatim()
    return await jobs.run(SECRET_DATA, request, tenant=tenant)
