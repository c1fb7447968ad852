"""Composition root of `keyferry doctor`: the providers of one probe."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from math import ceil
from typing import TYPE_CHECKING

from msgspec import Struct

from keyferry.aio.jobs import ThreadJobRunner
from keyferry.cli.exit_codes import exit_code
from keyferry.doctor.probe import ProbeTools
from keyferry.net.http_client import HttpsSettings
from keyferry.net.proxies import Proxies
from keyferry.plugins.children import open_emulator
from keyferry.providers.host import ProviderHost
from keyferry.providers.registry import provider_names
from keyferry.providers.settings import ProviderDependencies, ProviderSettings
from keyferry.resilience.fetcher import Fetcher
from keyferry.resilience.retry import RetryPolicy
from keyferry.resilience.settings import ResilienceSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

_TRIES = 2
"""A lost packet is no diagnosis, and a dead host is found soon."""


class ProbeSettings(Struct, frozen=True):
    """How a probe reaches the vaults.

    Attributes:
        providers: settings of the providers.
        seconds: the time limit of the diagnosis.
        dev_vault: data folder of the emulator that replaces all clouds, or None.
        vault_qps: maximum requests per second to one vault; 0 means no limit.
    """

    providers: ProviderSettings
    seconds: float
    dev_vault: Path | None = None
    vault_qps: float = ResilienceSettings().qps


def probe_resilience(
    seconds: float, vault_qps: float = ResilienceSettings().qps
) -> ResilienceSettings:
    """Return the cache and the limits of one probe.

    The cache lives as long as the probe, so that an object is read once, although it is mounted
    alone and with the others.

    Args:
        seconds: the time limit of the diagnosis.
        vault_qps: maximum requests per second to one vault; 0 means no limit.
    """
    return ResilienceSettings(
        cache_ttl=2 * seconds,
        negative_cache_ttl=0.0,
        qps=vault_qps,
        burst=max(1, ceil(vault_qps)),
        call_timeout=seconds / 3,
        retry=RetryPolicy(tries=_TRIES),
    )


@asynccontextmanager
async def probe_tools(settings: ProbeSettings) -> AsyncIterator[ProbeTools]:
    """Yield the providers of one probe; leaving the block closes them.

    Raises:
        KeyferryError: the emulator does not run, or a setting is invalid.
    """
    emulator = open_emulator(settings.dev_vault) if settings.dev_vault else None
    https = (
        emulator.https
        if emulator
        else HttpsSettings(
            proxies=Proxies.from_environment(os.environ), try_timeout=settings.seconds / 3
        )
    )
    fetcher = Fetcher(probe_resilience(settings.seconds, settings.vault_qps))
    jobs = ThreadJobRunner()
    deps = ProviderDependencies(https, settings.providers, fetcher, jobs, emulator=emulator)
    async with ProviderHost.build(provider_names(), deps) as host:
        yield ProbeTools(host, jobs, exit_code)
