"""Mounts and refreshes one volume for `keyferry mount`."""

from __future__ import annotations

import os
import time
from datetime import datetime
from typing import TYPE_CHECKING

import click
from msgspec import Struct

from keyferry.cli.console import console
from keyferry.cli.exit_codes import ExitCode, exit_code
from keyferry.cli.failures import InterruptedBySignalError
from keyferry.cli.local.content import missing_warnings
from keyferry.cli.local.engine import absolute_path, local_engine, local_publisher
from keyferry.cli.local.files import secret_manifests, visible_files
from keyferry.cli.output import OutputFormat, counted, print_document
from keyferry.driver.request import UnpublishRequest
from keyferry.errors import KeyferryError
from keyferry.process import can_mount
from keyferry.providers.expiry import near_expiry_warnings
from keyferry.telemetry.deduplicator import Deduplicator

if TYPE_CHECKING:
    from pathlib import Path

    from keyferry.cli.local.engine import LocalEngine
    from keyferry.cli.local.files import VisibleFile
    from keyferry.cli.local.options import LocalOptions
    from keyferry.driver.publish.delivery import PublishResult
    from keyferry.driver.request import PublishRequest


_MAX_LISTED = 3


class MountJob(Struct, frozen=True):
    """The arguments of `keyferry mount`."""

    local: LocalOptions
    target: Path
    secrets_dir: Path | None
    output: OutputFormat = OutputFormat.TABLE


async def mount_volume(job: MountJob, *, interval: float | None) -> None:
    """Mount a volume, and refresh it until a signal arrives if `interval` is not None.

    Args:
        job: what to mount.
        interval: seconds between two refreshes; None to exit after the mount.

    Raises:
        KeyferryError: the mount failed.
        InterruptedBySignalError: a signal arrived before the volume was mounted.
    """
    async with local_engine(job.local, secrets_dir=job.secrets_dir) as engine:
        request = await engine.request(absolute_path(job.target))
        start = time.perf_counter()
        published = await engine.publish(request)
        deduplicator = Deduplicator()
        _print_result(job, published, deduplicator, seconds=time.perf_counter() - start)
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


async def unmount_volume(target: Path, secrets_dir: Path | None) -> None:
    """Unmount `target`, and remove the Secrets in `secrets_dir`.

    Raises:
        KeyferryError: it is not a volume, or cannot be removed.
    """
    async with local_publisher(secrets_dir) as publisher:
        await publisher.unpublish(UnpublishRequest(absolute_path(target)))


def _print_result(
    job: MountJob, published: PublishResult, deduplicator: Deduplicator, *, seconds: float
) -> None:
    out = console()
    if published.masked_error:
        out.failure(published.masked_error, note="The files are unchanged.")
        raise click.exceptions.Exit(exit_code(published.masked_error))
    failed = {problem.secret_name for problem in published.secret_problems}
    manifests = secret_manifests(job.secrets_dir) if job.secrets_dir else []
    manifests = [manifest for manifest in manifests if manifest.stem not in failed]
    files = visible_files(job.target)
    if job.output is not OutputFormat.TABLE:
        print_document(_document(job, files, manifests, seconds), job.output)
    else:
        where = "tmpfs" if can_mount() else "a private folder on disk; a tmpfs requires root"
        out.report(f"mounted at {job.target} ({where}) in {seconds * 1000:.0f} ms:")
        for file in files:
            mode = f"{file.mode:04o}"
            if file.uid != os.geteuid():
                mode += f"  {file.uid}:{file.gid}"
            out.report(f"  {file.path}  {mode}  {counted(len(file.contents), 'byte')}")
        for manifest in manifests:
            out.report(f"  Secret {manifest.stem}  {manifest}")
    _warn_of_owners(published, files)
    _print_problems(published, deduplicator)


def _warn_of_owners(published: PublishResult, files: list[VisibleFile]) -> None:
    """Warn where `fileOwner` has no effect, or does not let its user read the file."""
    uid, paths = os.geteuid(), published.file_changes.without_owner
    if paths:
        some = ", ".join(paths[:_MAX_LISTED]) + (", ..." if len(paths) > _MAX_LISTED else "")
        belong = "belongs" if len(paths) == 1 else "belong"
        console().warn(
            f"fileOwner has no effect: only root can give files to another user, so {some} {belong}"
            f" to user {uid}"
        )
    elif not can_mount() and any(file.uid != uid for file in files):
        console().warn(
            f"only user {uid} can enter the private folder, so the users of fileOwner cannot read"
            " their files; run keyferry mount with CAP_SYS_ADMIN to mount a tmpfs"
        )


def _document(
    job: MountJob, files: list[VisibleFile], manifests: list[Path], seconds: float
) -> dict[str, object]:
    """Return what `-o json` prints; never the contents of a file."""
    return {
        "target": str(job.target),
        "tmpfs": can_mount(),
        "seconds": round(seconds, 3),
        "files": [
            {
                "path": file.path,
                "mode": f"{file.mode:04o}",
                "uid": file.uid,
                "gid": file.gid,
                "bytes": len(file.contents),
            }
            for file in files
        ],
        "secrets": [
            {
                "namespace": manifest.parent.name,
                "name": manifest.stem,
                "manifest": str(manifest),
            }
            for manifest in manifests
        ],
    }


def _print_problems(published: PublishResult, deduplicator: Deduplicator) -> None:
    out = console()
    warnings = near_expiry_warnings(published.expiries, time.time())
    if warnings and deduplicator.should_notify(warnings, time.monotonic()):
        for sentence in warnings:
            out.warn(sentence)
    if published.missing and deduplicator.should_notify(published.missing, time.monotonic()):
        for sentence in missing_warnings(published.missing):
            out.warn(sentence)
    notes = published.secret_warnings
    if notes and deduplicator.should_notify(notes, time.monotonic()):
        for sentence in notes:
            out.warn(sentence)
    for problem in published.secret_problems:
        name, cause = problem.secret_name, problem.error
        named = cause.problem if name in cause.problem else f"secret {name}: {cause.problem}"
        out.error(named, cause.remedy)
