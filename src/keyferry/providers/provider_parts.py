"""What every built-in provider is made of. [pure]"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keyferry.net.http_client import HttpsSettings
    from keyferry.providers.settings import ProviderSettings
    from keyferry.resilience.fetcher import Fetcher
    from keyferry.telemetry.metrics import Metrics


@dataclass(frozen=True, slots=True)
class ProviderDependencies:
    """The parts that the composition root has for a provider.

    Attributes:
        https: how its connections are made.
        settings: what it is told.
        fetcher: how it spares the vaults; one for all providers of the process.
        metrics: what is counted; None where nobody looks.
    """

    https: HttpsSettings
    settings: ProviderSettings
    fetcher: Fetcher
    metrics: Metrics | None = None
