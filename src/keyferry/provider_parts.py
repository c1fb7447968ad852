"""What every built-in provider is made of. [pure]"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keyferry.economy.hub import Fetcher
    from keyferry.https import HttpsSettings
    from keyferry.metrics import Metrics
    from keyferry.provider_settings import ProviderSettings


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
