"""Runs a probe that another Keyferry requests over standard input, in a pod of Keyferry.

The flags are those of the daemon of the pod, so that the probe has its addresses, restrictions and
TLS settings. With `--isolation=process`, the providers run without privileges, as those of the
driver do.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from keyferry.aio.clock import SystemClock
from keyferry.aio.jobs import ThreadJobRunner
from keyferry.cli.diagnosis.probing import probe_resilience
from keyferry.cli.exit_codes import exit_code
from keyferry.doctor.checks import DoctorStage, failed
from keyferry.doctor.node import DRIVER, SYNC_CONTROLLER
from keyferry.doctor.probe import ProbeTools, run_probe
from keyferry.doctor.request import decode_request, encode_checks
from keyferry.doctor.worker import PROBE, probe_method
from keyferry.driver.children import child_programs, preload_children, worker_settings
from keyferry.driver.settings import Isolation
from keyferry.errors import ConnectionFailedError, KeyferryError, RequestInvalidError
from keyferry.isolation.isolated_providers import IsolatedProviders
from keyferry.isolation.provider_worker import WorkerSettings, run_provider_worker
from keyferry.isolation.spawner import Role, Spawner
from keyferry.net.http_client import HttpsSettings
from keyferry.process import can_mount
from keyferry.providers.host import ProviderHost
from keyferry.providers.settings import ProviderDependencies
from keyferry.records import replace
from keyferry.resilience.fetcher import Fetcher

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keyferry.doctor.checks import Check
    from keyferry.doctor.request import ProbeRequest
    from keyferry.driver.built_in import BuiltIn
    from keyferry.driver.settings import DriverSettings
    from keyferry.providers.settings import ProviderSettings

MAX_REQUEST_BYTES = 8 << 20
_OOM_SCORE = "1000"
_VARIABLE = re.compile(r"\$\(([A-Za-z_][A-Za-z0-9_]*)\)")


def probe_from_stdin() -> None:
    """Read a request from standard input, and print the checks as one line.

    Raises:
        KeyferryError: the request or the flags are invalid.
    """
    # When the container runs out of memory, the kernel ends the probe and not the daemon.
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE)
    request = decode_request(sys.stdin.buffer.readline(MAX_REQUEST_BYTES))
    try:
        checks = _run(request)
    except KeyferryError as error:
        checks = (_start_failure(error),)
    sys.stdout.buffer.write(encode_checks(checks))


def _run(request: ProbeRequest) -> tuple[Check, ...]:
    daemon, *arguments = (_expanded(each, os.environ) for each in request.arguments or ("",))
    match daemon:
        case "driver":
            return _run_as_driver(request, arguments)
        case "sync-controller":
            return _run_as_controller(request, arguments)
        case _:
            raise RequestInvalidError(
                "the probe request has no arguments of a daemon",
                f"They begin with {DRIVER} or {SYNC_CONTROLLER}.",
            )


def _start_failure(error: KeyferryError) -> Check:
    """Return the check of providers that cannot be started."""
    if isinstance(error, ConnectionFailedError):
        return failed(DoctorStage.TCP, "development vault", error, exit_code=exit_code(error))
    return failed(DoctorStage.PARAMETERS, "flags of the pod", error, exit_code=exit_code(error))


def _expanded(text: str, environ: Mapping[str, str]) -> str:
    """Replace `$(NAME)` as kubelet does."""
    return _VARIABLE.sub(lambda match: environ.get(match[1], match[0]), text)


def _run_as_driver(request: ProbeRequest, arguments: list[str]) -> tuple[Check, ...]:
    from keyferry.cli.daemons.driver import DRIVER_FLAGS, settings_from
    from keyferry.cli.flags.go_flags import parse_flags

    settings = settings_from(parse_flags(arguments, DRIVER_FLAGS))
    settings = replace(settings, provider_settings=_without_state(settings.provider_settings))
    worker = replace(worker_settings(settings), resilience=probe_resilience(request.seconds))
    if settings.isolation is not Isolation.PROCESS or not can_mount():
        return asyncio.run(_probe_in_process(request, worker))
    programs = child_programs(settings, worker)
    own = partial(
        run_provider_worker,
        settings=worker,
        more_methods=partial(probe_method, exit_code=exit_code),
    )
    programs[Role.PROVIDERS] = replace(programs[Role.PROVIDERS], run=own)
    spawner = Spawner(programs, partial(preload_children, settings.built_in))
    try:
        return asyncio.run(_probe_isolated(request, settings, worker, spawner))
    finally:
        spawner.close()


def _run_as_controller(request: ProbeRequest, arguments: list[str]) -> tuple[Check, ...]:
    from keyferry.cli.daemons.sync_controller import SYNC_CONTROLLER_FLAGS, settings_from
    from keyferry.cli.flags.go_flags import parse_flags
    from keyferry.plugins.children import open_emulator

    settings = settings_from(parse_flags(arguments, SYNC_CONTROLLER_FLAGS))
    emulator = open_emulator(settings.dev_vault) if settings.dev_vault else None
    worker = WorkerSettings(
        settings.built_in,
        _without_state(settings.provider_settings),
        emulator.https if emulator else HttpsSettings(proxies=settings.proxies),
        probe_resilience(request.seconds),
        emulator,
    )
    return asyncio.run(_probe_in_process(request, worker))


def _without_state(settings: ProviderSettings) -> ProviderSettings:
    """Return settings of providers that leave the files and the leases of the daemon alone."""
    vault, openbao = (
        replace(each, lease_folders=(), renew_leases=False)
        for each in (settings.vault, settings.openbao)
    )
    return replace(settings, vault=vault, openbao=openbao)


async def _probe_in_process(request: ProbeRequest, worker: WorkerSettings) -> tuple[Check, ...]:
    jobs = ThreadJobRunner()
    fetcher = Fetcher(worker.resilience)
    deps = ProviderDependencies(
        worker.https, worker.settings, fetcher, jobs, emulator=worker.emulator
    )
    async with ProviderHost.build(worker.built_in, deps) as host:
        return await run_probe(request, ProbeTools(host, jobs, exit_code))


async def _probe_isolated(
    request: ProbeRequest, settings: DriverSettings, worker: WorkerSettings, spawner: Spawner
) -> tuple[Check, ...]:
    from keyferry.driver.built_in import build_built_in
    from keyferry.telemetry.metrics import Metrics

    built_in: BuiltIn = build_built_in(
        settings, worker, Metrics(), spawner=spawner, clock=SystemClock()
    )
    providers = built_in.providers
    assert isinstance(providers, IsolatedProviders)
    try:
        return await providers.call(PROBE, request)
    finally:
        await providers.close()
