"""The child processes of the driver: what they run, and what they are left with."""

from __future__ import annotations

import resource
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from keyferry.isolation.provider_worker import WorkerSettings, run_provider_worker
from keyferry.isolation.sandbox import Sandbox
from keyferry.isolation.spawner import ChildProgram, Role
from keyferry.net.http_client import HttpsSettings
from keyferry.net.sockets import parse_endpoint
from keyferry.plugins.children import all_jobs, open_emulator, parser_program
from keyferry.providers.registry import preload
from keyferry.records import replace

if TYPE_CHECKING:
    from keyferry.driver.settings import DriverSettings
    from keyferry.providers.settings import ProviderSettings
    from keyferry.resilience.settings import ResilienceSettings

PROVIDER_UID = 65501
"""The user of the provider worker. Nothing else on a node should have it."""
_MEBIBYTE = 1 << 20


def worker_settings(settings: DriverSettings) -> WorkerSettings:
    """Return the settings of the built-in providers.

    Raises:
        PlatformError: the development vault does not run.
    """
    emulator = open_emulator(settings.dev_vault) if settings.dev_vault else None
    return WorkerSettings(
        settings.built_in,
        settings.provider_settings,
        emulator.https if emulator else HttpsSettings(proxies=settings.proxies),
        provider_resilience(settings),
        emulator,
    )


def provider_resilience(settings: DriverSettings) -> ResilienceSettings:
    """Return the cache and rate limits that all built-in providers share."""
    interval = settings.rotation_interval
    return replace(settings.resilience, refresh_interval=interval, tracks_volumes=True)


def child_programs(settings: DriverSettings, worker: WorkerSettings) -> dict[Role, ChildProgram]:
    """Return the programs of the child processes; `preload_children` imports what they run.

    Args:
        settings: of the driver.
        worker: of the built-in providers.
    """
    return {
        Role.PROVIDERS: ChildProgram(
            _provider_sandbox(settings), partial(run_provider_worker, settings=worker)
        ),
        Role.PARSER: parser_program(_hidden(settings, needed=()), imports_jobs=False),
    }


def preload_children(names: tuple[str, ...]) -> None:
    """Import what the child processes run.

    The spawner calls it: its children share its memory, and CSI is served meanwhile.

    Args:
        names: the built-in providers.
    """
    preload(names)
    all_jobs()


def _provider_sandbox(settings: DriverSettings) -> Sandbox:
    vaults = settings.provider_settings.vault, settings.provider_settings.openbao
    lease_folders = tuple({Path(folder) for each in vaults for folder in each.lease_folders})
    return Sandbox(
        uid=PROVIDER_UID,
        network=True,
        hidden=_hidden(settings, needed=lease_folders),
        limits={
            resource.RLIMIT_DATA: 256 * _MEBIBYTE,
            resource.RLIMIT_FSIZE: 16 * _MEBIBYTE,
            resource.RLIMIT_NPROC: 512,
        },
        owned=lease_folders,
        visible=_named_files(settings.provider_settings),
    )


def _named_files(settings: ProviderSettings) -> tuple[Path, ...]:
    """Return the files and folders that flags and environment name for the providers."""
    vaults = settings.vault, settings.openbao
    sockets = (
        address.removeprefix("unix://")
        for each in vaults
        for address in (each.address, each.agent_address)
        if address.startswith("unix://")
    )
    tls = (path for each in vaults for layer in each.tls for path in layer.files)
    return tuple(Path(path) for path in (*settings.restrictions.file_folders, *tls, *sockets))


def _hidden(settings: DriverSettings, *, needed: tuple[Path, ...]) -> tuple[Path, ...]:
    """Return the folders of kubelet, of the driver and of its service account.

    A folder that contains one of `needed` stays visible; its files belong to root.
    """
    socket = parse_endpoint(settings.endpoint).socket
    folders = (
        Path(settings.kubelet_folder),
        socket.absolute().parent if socket else None,
        settings.registration_folder,
        *settings.provider_folders,
        settings.manifests,
        Path(settings.provider_settings.vault.service_account_folder),
    )
    return tuple(
        folder
        for folder in dict.fromkeys(folders)
        if folder is not None
        and folder != Path("/")
        and not any(each.is_relative_to(folder) for each in needed)
    )
