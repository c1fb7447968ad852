"""Economies for tests of what is behind them.

provider = AzureProvider(https, forgetful(StillPace()))
"""

from __future__ import annotations

from keyferry.economy.errand import Errand
from keyferry.economy.hub import Economy
from keyferry.economy.settings import EconomySettings
from tests.fakes.pace import StillPace


def forgetful(pace: StillPace | None = None) -> Economy:
    """Holds no answer, so that what a test changes in a vault counts at once."""
    return Economy(EconomySettings(reuse=0, refusals=0), (pace or StillPace()).pace)


def errand() -> Errand:
    """For one request to any vault."""
    return forgetful().errand("vault.test")
