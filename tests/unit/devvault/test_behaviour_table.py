from __future__ import annotations

import pytest

from keyferry.devvault.data import DevVaultData
from keyferry.devvault.model import CloseHalfWay, Fault, Hang, RespondStatus, Tuning
from keyferry.errors import RequestInvalidError


def test_a_tuning_is_kept_whole_and_cleared_whole(dev: DevVaultData) -> None:
    """Every number comes back with its type; an absent limit too."""
    tuning = Tuning(latency=0.02, throttle=10, retry_after=2, token_lifetime=60)
    assert dev.behaviour.tuning() == Tuning()
    dev.behaviour.tune(tuning)
    assert repr(tuning) == repr(dev.behaviour.tuning())
    dev.behaviour.tune(Tuning(throttle=None))
    assert repr(Tuning()) == repr(dev.behaviour.tuning())
    dev.behaviour.tune(tuning)
    dev.behaviour.clear()
    assert dev.behaviour.tuning() == Tuning()


def test_a_negative_number_is_refused(dev: DevVaultData) -> None:
    """The message names the number."""
    with pytest.raises(RequestInvalidError, match="latency cannot be negative"):
        dev.behaviour.tune(Tuning(latency=-1))


def test_the_first_fault_that_matches_happens_until_it_is_used_up(dev: DevVaultData) -> None:
    """Then the next one has its turn; one without a number stays."""
    dev.behaviour.add_fault(Fault("kv1.vault.azure.net/secrets/a", RespondStatus(429, 2), 2))
    dev.behaviour.add_fault(Fault("/secrets", CloseHalfWay(), 1))
    dev.behaviour.add_fault(Fault("kv1.vault.azure.net", Hang()))
    taken = [dev.behaviour.take_fault("kv1.vault.azure.net", "/secrets/a") for _ in range(5)]
    assert [RespondStatus(429, 2), RespondStatus(429, 2), CloseHalfWay(), Hang(), Hang()] == taken
    assert dev.behaviour.faults() == (Fault("kv1.vault.azure.net", Hang()),)


@pytest.mark.parametrize(
    ("match", "happens"),
    [
        ("/secrets/db", True),
        ("/secrets/DB-2", False),
        ("KV1.vault.azure.net", True),
        ("kv1.vault.azure.net/secrets", True),
        ("kv2.vault.azure.net", False),
        ("/", True),
    ],
)
def test_a_fault_matches_the_beginning_of_host_and_path(
    dev: DevVaultData, match: str, happens: bool
) -> None:
    """Without regard to case; a leading slash means any host."""
    dev.behaviour.add_fault(Fault(match, Hang()))
    taken = dev.behaviour.take_fault("kv1.vault.azure.net", "/secrets/db")
    assert (Hang() if happens else None) == taken


def test_clearing_the_faults_keeps_the_tuning(dev: DevVaultData) -> None:
    """They are two things."""
    dev.behaviour.tune(Tuning(latency=1))
    dev.behaviour.add_fault(Fault("/", Hang()))
    dev.behaviour.clear_faults()
    assert ((), 1) == (dev.behaviour.faults(), dev.behaviour.tuning().latency)


def test_one_fault_is_forgotten_and_others_stay(dev: DevVaultData) -> None:
    """By the words with which it was added."""
    dev.behaviour.add_fault(Fault("kv1.vault.azure.net", Hang()))
    dev.behaviour.add_fault(Fault("kv2.vault.azure.net", Hang()))
    dev.behaviour.clear_faults("kv1.vault.azure.net")
    assert (Fault("kv2.vault.azure.net", Hang()),) == dev.behaviour.faults()
