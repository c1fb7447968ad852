"""`keyferry mount` and `keyferry unmount`: the engine of the driver without a cluster."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from keyferry.cli.flags.providers import provider_options, settings_from_options
from keyferry.cli.local_engine import local_engine
from keyferry.cli.mount_files import visible_files
from keyferry.cli.mount_inputs import read_credentials, read_tokens
from keyferry.cli.unknown_fields import UnknownFieldWarnings
from keyferry.driver.request import PublishRequest, UnpublishRequest
from keyferry.driver.volumes.mounter import can_mount
from keyferry.errors import ClassInvalidError, KeyferryError, RequestInvalidError
from keyferry.formats.go_values import parse_duration
from keyferry.kubernetes import PodRef
from keyferry.net.grpc_server import stop_signal
from keyferry.providers.api import (
    POD_NAME,
    POD_NAMESPACE,
    POD_UID,
    SERVICE_ACCOUNT_TOKENS,
    SPC_ATTRIBUTE,
)
from keyferry.providers.expiry import near_expiry_warnings
from keyferry.providers.registry import provider_names
from keyferry.resilience.settings import ResilienceSettings
from keyferry.telemetry.deduplicator import Deduplicator
from keyferry.telemetry.logs import configure_logs

if TYPE_CHECKING:
    from keyferry.cli.flags.go_flags import FlagValue
    from keyferry.driver.publish.delivery import PublishResult
    from keyferry.driver.publish.publisher import Publisher
    from keyferry.kubernetes.files.store import ManifestsStore
    from keyferry.providers.settings import ProviderSettings

_PATH = click.Path(path_type=Path)


class _DurationParam(click.ParamType[float]):
    name = "duration"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        try:
            seconds = parse_duration(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if seconds <= 0:
            self.fail("must be greater than 0", param, ctx)
        return seconds


@dataclass(frozen=True, slots=True)
class _MountOptions:
    """The arguments of `keyferry mount`."""

    spc_file: Path
    target: Path
    spc_name: str | None
    secrets_dir: Path | None
    credentials: Path | None
    tokens: Path | None
    dev_vault: Path | None
    settings: ProviderSettings
    vault_qps: float


@click.command()
@click.argument("class_file", metavar="CLASS.yaml", type=_PATH)
@click.argument("target", metavar="TARGET", type=_PATH)
@click.option(
    "--class",
    "class_name",
    metavar="NAME",
    help="Name of the SecretProviderClass, if the file contains several.",
)
@click.option(
    "--secrets-dir",
    type=_PATH,
    help="Write the Kubernetes Secrets of secretObjects to this folder, as YAML manifests.",
)
@click.option("--watch", is_flag=True, help="Keep running and refresh until interrupted.")
@click.option(
    "--interval",
    type=_DurationParam(),
    default="2m",
    show_default=True,
    help="Refresh interval of --watch.",
)
@click.option(
    "--credentials",
    type=_PATH,
    help="YAML file with the Kubernetes Secret that nodePublishSecretRef names in a pod (clientid"
    " and clientsecret, role_id and secret_id, token, or tls.crt and tls.key).",
)
@click.option(
    "--service-account-tokens",
    "tokens",
    type=_PATH,
    help="JSON file with service account tokens as kubelet sends them (workload identity, Vault).",
)
@click.option(
    "--dev-vault",
    type=_PATH,
    metavar="DIR",
    help="DEVELOPMENT ONLY: use the `keyferry devvault` that runs with --data DIR, not the cloud.",
)
@click.option(
    "--vault-qps",
    type=click.FloatRange(min=0),
    default=ResilienceSettings().qps,
    show_default=True,
    help="Maximum requests per second to one vault; 0 means no limit.",
)
@provider_options
def mount(
    class_file: Path,
    target: Path,
    class_name: str | None,
    secrets_dir: Path | None,
    watch: bool,
    interval: float,
    credentials: Path | None,
    tokens: Path | None,
    dev_vault: Path | None,
    vault_qps: float,
    **values: FlagValue,
) -> None:
    """Fetch the objects of a SecretProviderClass and mount them at TARGET.

    Root gets a tmpfs, any other user a private folder on disk. Run the command again to refresh the
    files. `keyferry unmount TARGET` removes them.
    """
    configure_logs(as_json=False, verbosity=0, quiet=True)
    # Only the pod status shows versions, and it is written to this folder.
    settings = settings_from_options(values, os.environ, hmac_key_folder=secrets_dir)
    job = _MountOptions(
        class_file,
        target,
        class_name,
        secrets_dir,
        credentials,
        tokens,
        dev_vault,
        settings,
        vault_qps,
    )
    asyncio.run(_mount(job, interval=interval if watch else None))


@click.command()
@click.argument("target", metavar="TARGET", type=_PATH)
@click.option(
    "--secrets-dir", type=_PATH, help="Also remove the Secrets that `mount` wrote to this folder."
)
def unmount(target: Path, secrets_dir: Path | None) -> None:
    """Unmount TARGET and remove its files. No-op if nothing is mounted."""
    configure_logs(as_json=False, verbosity=0, quiet=True)
    existed = target.exists()
    asyncio.run(_unmount(target, secrets_dir))
    click.echo(f"unmounted {target}" if existed else f"nothing is mounted at {target}")


async def _mount(options: _MountOptions, *, interval: float | None) -> None:
    warnings = UnknownFieldWarnings()
    secrets = read_credentials(options.credentials, warnings) if options.credentials else {}
    tokens = read_tokens(options.tokens, warnings) if options.tokens else None
    stop = stop_signal()
    async with local_engine(
        options.spc_file,
        options.secrets_dir,
        built_in=provider_names(),
        settings=options.settings,
        dev_vault=options.dev_vault,
        vault_qps=options.vault_qps,
    ) as (publisher, store):
        namespace, name = _choose_spc(await store.class_names(), options)
        request = _publish_request(options.target, namespace, name, secrets, tokens)
        warnings.check_class(await store.get_class(namespace, name), secrets)
        start = time.perf_counter()
        published = await publisher.publish(request)
        deduplicator = Deduplicator()
        _print_result(options, published, deduplicator, seconds=time.perf_counter() - start)
        if interval is not None:
            await _watch(publisher, store, request, interval, stop, deduplicator, warnings)
    if published.secret_problems and interval is None:
        raise click.exceptions.Exit(1)


async def _watch(
    publisher: Publisher,
    store: ManifestsStore,
    request: PublishRequest,
    interval: float,
    stop: asyncio.Event,
    deduplicator: Deduplicator,
    warnings: UnknownFieldWarnings,
) -> None:
    click.echo(f"refreshing every {interval:g} s; press Ctrl-C to stop (the files remain)")
    while not await _stopped_within(stop, interval):
        now = f"{datetime.now():%H:%M:%S}"  # noqa: DTZ005 - local time for the terminal
        try:
            warnings.check_class(
                await store.get_class(request.pod.namespace, request.class_name), request.secrets
            )
            published = await publisher.publish(request)
        except KeyferryError as error:
            click.echo(f"{now} {error.stage.value}: {error} The files are unchanged.", err=True)
            continue
        if published.masked_error:
            click.echo(
                f"{now} {published.masked_error.stage.value}: {published.masked_error} "
                "The files are unchanged.",
                err=True,
            )
        for verb in ("added", "changed", "removed"):
            for path in getattr(published.file_changes, verb):
                click.echo(f"{now} {verb} {path}")
        _print_problems(published, deduplicator)


async def _stopped_within(stop: asyncio.Event, seconds: float) -> bool:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return False
    return True


async def _unmount(target: Path, secrets_dir: Path | None) -> None:
    async with local_engine(target, secrets_dir) as (publisher, _):
        await publisher.unpublish(UnpublishRequest(_absolute_path(target)))


def _choose_spc(names: list[tuple[str, str]], options: _MountOptions) -> tuple[str, str]:
    """Return the namespace and the name of the SecretProviderClass to mount."""
    matches = [(ns, name) for ns, name in names if options.spc_name in (None, name)]
    if len(matches) == 1:
        return matches[0]
    listed = ", ".join(f"{ns}/{name}" for ns, name in names)
    if not names:
        raise ClassInvalidError(
            f"there is no SecretProviderClass in {options.spc_file}",
            "Use a file that contains one; `keyferry demo` shows an example.",
        )
    if not matches:
        raise RequestInvalidError(
            f"there is no SecretProviderClass {options.spc_name!r} in {options.spc_file}",
            f"It contains: {listed}.",
        )
    raise RequestInvalidError(
        f"{options.spc_file} contains {len(matches)} SecretProviderClasses: {listed}",
        "Choose one with --class NAME, or keep one namespace in the file.",
    )


def _absolute_path(target: Path) -> str:
    """Return the path that identifies a target, independent of the working directory."""
    return os.path.abspath(target)  # noqa: PTH100 - resolve() would follow a link at the target


def _publish_request(
    target: Path, namespace: str, name: str, secrets: dict[str, str], tokens: str | None
) -> PublishRequest:
    """Return the request that kubelet would send for a pod that is named after the target."""
    absolute = _absolute_path(target)
    digest = hashlib.sha256(absolute.encode()).hexdigest()
    pod = PodRef(namespace, f"local-{digest[:10]}", digest[:32])
    context = {
        SPC_ATTRIBUTE: name,
        POD_NAMESPACE: pod.namespace,
        POD_NAME: pod.name,
        POD_UID: pod.uid,
    }
    if tokens:
        context[SERVICE_ACCOUNT_TOKENS] = tokens
    return PublishRequest(
        target_path=absolute,
        readonly=True,
        pod=pod,
        class_name=name,
        context=context,
        secrets=secrets,
    )


def _print_result(
    options: _MountOptions, published: PublishResult, deduplicator: Deduplicator, *, seconds: float
) -> None:
    where = "tmpfs" if can_mount() else "a private folder on disk; a tmpfs requires root"
    if published.masked_error:
        click.echo(
            f"{published.masked_error.stage.value}: {published.masked_error} The files "
            "are unchanged.",
            err=True,
        )
        raise click.exceptions.Exit(1)
    click.echo(f"mounted at {options.target} ({where}) in {seconds * 1000:.0f} ms:")
    for file in visible_files(options.target):
        click.echo(f"  {file.path}  {file.mode:04o}  {len(file.contents)} bytes")
    if options.secrets_dir:
        for manifest in sorted((options.secrets_dir / "secrets").rglob("*.yaml")):
            click.echo(f"  Secret {manifest.stem}  {manifest}")
    _print_problems(published, deduplicator)


def _print_problems(published: PublishResult, deduplicator: Deduplicator) -> None:
    warnings = near_expiry_warnings(published.expiries, time.time())
    if warnings and deduplicator.should_notify(warnings, time.monotonic()):
        for sentence in warnings:
            click.echo(f"warning: {sentence}", err=True)
    for problem in published.secret_problems:
        click.echo(f"secret: {problem.message}", err=True)
