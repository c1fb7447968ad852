"""Economies for tests of what is behind them.

provider = AzureProvider(https, forgetful(StillClock()))
"""

from __future__ import annotations

from keyferry.economy.errand import Errand
from keyferry.economy.hub import Economy
from keyferry.economy.settings import EconomySettings
from tests.fakes.clock import StillClock


def forgetful(clock: StillClock | None = None) -> Economy:
    """Holds no answer, so that what a test changes in a vault counts at once."""
    still = clock or StillClock()
    return Economy(EconomySettings(reuse=0, refusals=0), still, dice=still.dice)


def errand() -> Errand:
    """For one request to any vault."""
    return forgetful().errand("vault.test")
