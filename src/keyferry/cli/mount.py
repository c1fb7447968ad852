"""`keyferry mount` and `keyferry unmount`; the engine is imported when they run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from keyferry.cli.commands import command, option
from keyferry.cli.console import console
from keyferry.cli.flags.paths import PathKind, path_kind
from keyferry.cli.local.options import PATH, DurationParam, LocalOptions, local_options
from keyferry.cli.output import OutputFormat, output_option

if TYPE_CHECKING:
    from pathlib import Path


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
@output_option
def mount(
    options: LocalOptions,
    target: Path,
    secrets_dir: Path | None,
    watch: bool,
    interval: float,
    output: OutputFormat,
) -> None:
    """Fetch the objects of a SecretProviderClass and mount them at TARGET.

    CLASS.yaml is a file or a folder of manifests, or - for standard input. Root gets a tmpfs, any
    other user a private folder on disk. Run the command again to refresh the files. `keyferry
    unmount TARGET` removes them.
    """
    import asyncio

    from keyferry.cli.local.mounting import MountJob, mount_volume

    source = click.get_current_context().get_parameter_source("interval")
    if not watch and source is not click.core.ParameterSource.DEFAULT:
        raise click.UsageError("--interval requires --watch")
    if watch and output is not OutputFormat.TABLE:
        raise click.UsageError(f"-o {output} and --watch exclude each other")
    console().configure_logs()
    job = MountJob(options, target, secrets_dir, output)
    asyncio.run(mount_volume(job, interval=interval if watch else None))


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
    import asyncio

    from keyferry.cli.local.mounting import unmount_volume

    console().configure_logs()
    existed = path_kind(target) is not PathKind.MISSING
    asyncio.run(unmount_volume(target, secrets_dir))
    console().report(f"unmounted {target}" if existed else f"nothing is mounted at {target}")
