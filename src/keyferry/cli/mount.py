"""`keyferry mount` and `keyferry unmount`: the engine of the driver without a cluster."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import click

from keyferry.cli.commands import command, option
from keyferry.cli.console import console
from keyferry.cli.exit_codes import ExitCode, exit_code
from keyferry.cli.failures import InterruptedBySignalError
from keyferry.cli.local.engine import absolute_path, local_engine, local_publisher
from keyferry.cli.local.files import secret_manifests, visible_files
from keyferry.cli.local.options import PATH, DurationParam, LocalOptions, local_options
from keyferry.cli.paths import PathKind, path_kind
from keyferry.driver.request import UnpublishRequest
from keyferry.driver.volumes.mounter import can_mount
from keyferry.errors import KeyferryError
from keyferry.providers.expiry import near_expiry_warnings
from keyferry.telemetry.deduplicator import Deduplicator

if TYPE_CHECKING:
    from pathlib import Path

    from keyferry.cli.local.engine import LocalEngine
    from keyferry.driver.publish.delivery import PublishResult
    from keyferry.driver.request import PublishRequest


@dataclass(frozen=True, slots=True)
class _MountOptions:
    """The arguments of `keyferry mount`."""

    local: LocalOptions
    target: Path
    secrets_dir: Path | None


@command(
    examples=(
        "keyferry mount app.yaml ./secrets",
        "keyferry mount app.yaml ./secrets --dev-vault ./vault --watch --interval 10s",
        "kubectl get secretproviderclass app -o yaml | keyferry mount - ./secrets",
    )
)
@local_options
@click.argument("target", metavar="TARGET", type=PATH)
@option(
    "--secrets-dir",
    type=PATH,
    metavar="DIR",
    section="Output",
    help="Write the Kubernetes Secrets of secretObjects to this folder, as YAML manifests.",
)
@option(
    "--watch", is_flag=True, section="Refresh", help="Keep running and refresh until interrupted."
)
@option(
    "--interval",
    type=DurationParam(),
    default="2m",
    show_default=True,
    metavar="DURATION",
    section="Refresh",
    help="Refresh interval of --watch.",
)
def mount(
    options: LocalOptions, target: Path, secrets_dir: Path | None, watch: bool, interval: float
) -> None:
    """Fetch the objects of a SecretProviderClass and mount them at TARGET.

    CLASS.yaml is a file or a folder of manifests, or - for standard input. Root gets a tmpfs, any
    other user a private folder on disk. Run the command again to refresh the files. `keyferry
    unmount TARGET` removes them.
    """
    source = click.get_current_context().get_parameter_source("interval")
    if not watch and source is not click.core.ParameterSource.DEFAULT:
        raise click.UsageError("--interval requires --watch")
    console().configure_logs()
    job = _MountOptions(options, target, secrets_dir)
    asyncio.run(_mount(job, interval=interval if watch else None))


@command(examples=("keyferry unmount ./secrets",))
@click.argument("target", metavar="TARGET", type=PATH)
@option(
    "--secrets-dir",
    type=PATH,
    metavar="DIR",
    help="Also remove the Secrets that `mount` wrote to this folder.",
)
def unmount(target: Path, secrets_dir: Path | None) -> None:
    """Unmount TARGET and remove its files.

    Nothing happens if nothing is mounted there.
    """
    console().configure_logs()
    existed = path_kind(target) is not PathKind.MISSING
    asyncio.run(_unmount(target, secrets_dir))
    console().report(f"unmounted {target}" if existed else f"nothing is mounted at {target}")


async def _mount(options: _MountOptions, *, interval: float | None) -> None:
    async with local_engine(options.local, secrets_dir=options.secrets_dir) as engine:
        request = await engine.request(absolute_path(options.target))
        start = time.perf_counter()
        published = await engine.publish(request)
        deduplicator = Deduplicator()
        _print_result(options, published, deduplicator, seconds=time.perf_counter() - start)
        if interval is not None:
            await _watch(engine, request, interval, deduplicator)
    if published.secret_problems and interval is None:
        raise click.exceptions.Exit(ExitCode.FAILED)


async def _watch(
    engine: LocalEngine, request: PublishRequest, interval: float, deduplicator: Deduplicator
) -> None:
    out = console()
    out.note(f"refreshing every {interval:g} s; press Ctrl-C to stop (the files remain)")
    while not await engine.stop.within(interval):
        now = f"{datetime.now():%H:%M:%S}"  # noqa: DTZ005 - local time for the terminal
        try:
            published = await engine.publish(request)
        except KeyferryError as error:
            out.failure(error, at=now, note="The files are unchanged.")
            continue
        except InterruptedBySignalError:
            return
        if published.masked_error:
            out.failure(published.masked_error, at=now, note="The files are unchanged.")
        for verb in ("added", "changed", "removed"):
            for path in getattr(published.file_changes, verb):
                out.report(f"{now} {verb} {path}")
        _print_problems(published, deduplicator)


async def _unmount(target: Path, secrets_dir: Path | None) -> None:
    async with local_publisher(secrets_dir) as publisher:
        await publisher.unpublish(UnpublishRequest(absolute_path(target)))


def _print_result(
    options: _MountOptions, published: PublishResult, deduplicator: Deduplicator, *, seconds: float
) -> None:
    out = console()
    if published.masked_error:
        out.failure(published.masked_error, note="The files are unchanged.")
        raise click.exceptions.Exit(exit_code(published.masked_error))
    where = "tmpfs" if can_mount() else "a private folder on disk; a tmpfs requires root"
    out.report(f"mounted at {options.target} ({where}) in {seconds * 1000:.0f} ms:")
    for file in visible_files(options.target):
        out.report(f"  {file.path}  {file.mode:04o}  {len(file.contents)} bytes")
    if options.secrets_dir:
        failed = {problem.secret_name for problem in published.secret_problems}
        for manifest in secret_manifests(options.secrets_dir):
            if manifest.stem in failed:
                continue
            out.report(f"  Secret {manifest.stem}  {manifest}")
    _print_problems(published, deduplicator)


def _print_problems(published: PublishResult, deduplicator: Deduplicator) -> None:
    out = console()
    warnings = near_expiry_warnings(published.expiries, time.time())
    if warnings and deduplicator.should_notify(warnings, time.monotonic()):
        for sentence in warnings:
            out.warn(sentence)
    for sentence in published.secret_warnings:
        out.warn(sentence)
    for problem in published.secret_problems:
        out.error(problem.message)
