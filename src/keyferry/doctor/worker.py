"""Runs a probe in a provider worker, without the privileges of the pod."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.doctor.checks import Check
from keyferry.doctor.probe import ProbeTools, run_probe
from keyferry.doctor.request import ProbeRequest
from keyferry.isolation.messages import Method

if TYPE_CHECKING:
    from keyferry.aio.jobs import JobRunner
    from keyferry.doctor.outcomes import ExitCodeOf
    from keyferry.isolation.provider_worker import Handlers
    from keyferry.providers.host import ProviderHost

PROBE: Method[ProbeRequest, tuple[Check, ...]] = Method("probe", ProbeRequest, tuple[Check, ...])


def probe_method(host: ProviderHost, jobs: JobRunner, *, exit_code: ExitCodeOf) -> Handlers:
    """Return the method `PROBE` of a worker.

    Args:
        host: the providers of the worker.
        jobs: runs its parse jobs.
        exit_code: returns the exit code of an error.
    """

    async def probe(request: ProbeRequest) -> tuple[Check, ...]:
        return await run_probe(request, ProbeTools(host, jobs, exit_code))

    return {PROBE.name: (PROBE, probe)}
