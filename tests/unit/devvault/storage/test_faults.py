from __future__ import annotations

import pytest

from keyferry.errors import RequestInvalidError
from keyferry_devvault.model import CloseMidResponse, Fault, Hang, RespondStatus, Tuning
from keyferry_devvault.storage.data import DevVaultData


def test_a_tuning_is_kept_whole_and_cleared_whole(dev: DevVaultData) -> None:
    """Every number comes back with its type; an absent limit too."""
    tuning = Tuning(latency=0.02, throttle=10, retry_after=2, token_lifetime=60)
    assert dev.fault_injection.tuning() == Tuning()
    dev.fault_injection.tune(tuning)
    assert repr(tuning) == repr(dev.fault_injection.tuning())
    dev.fault_injection.tune(Tuning(throttle=None))
    assert repr(Tuning()) == repr(dev.fault_injection.tuning())
    dev.fault_injection.tune(tuning)
    dev.fault_injection.clear()
    assert dev.fault_injection.tuning() == Tuning()


def test_a_negative_number_is_refused(dev: DevVaultData) -> None:
    """The message names the number."""
    with pytest.raises(RequestInvalidError, match="latency cannot be negative"):
        dev.fault_injection.tune(Tuning(latency=-1))


def test_the_first_fault_that_matches_happens_until_it_is_used_up(dev: DevVaultData) -> None:
    """Then the next one has its turn; one without a number stays."""
    dev.fault_injection.add_fault(Fault("kv1.vault.azure.net/secrets/a", RespondStatus(429, 2), 2))
    dev.fault_injection.add_fault(Fault("/secrets", CloseMidResponse(), 1))
    dev.fault_injection.add_fault(Fault("kv1.vault.azure.net", Hang()))
    taken = [
        dev.fault_injection.consume_fault("kv1.vault.azure.net", "/secrets/a") for _ in range(5)
    ]
    assert [
        RespondStatus(429, 2),
        RespondStatus(429, 2),
        CloseMidResponse(),
        Hang(),
        Hang(),
    ] == taken
    assert dev.fault_injection.faults() == (Fault("kv1.vault.azure.net", Hang()),)


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
    dev.fault_injection.add_fault(Fault(match, Hang()))
    taken = dev.fault_injection.consume_fault("kv1.vault.azure.net", "/secrets/db")
    assert (Hang() if happens else None) == taken


def test_clearing_the_faults_keeps_the_tuning(dev: DevVaultData) -> None:
    """They are two things."""
    dev.fault_injection.tune(Tuning(latency=1))
    dev.fault_injection.add_fault(Fault("/", Hang()))
    dev.fault_injection.clear_faults()
    assert ((), 1) == (dev.fault_injection.faults(), dev.fault_injection.tuning().latency)


def test_one_fault_is_forgotten_and_others_stay(dev: DevVaultData) -> None:
    """By the words with which it was added."""
    dev.fault_injection.add_fault(Fault("kv1.vault.azure.net", Hang()))
    dev.fault_injection.add_fault(Fault("kv2.vault.azure.net", Hang()))
    dev.fault_injection.clear_faults("kv1.vault.azure.net")
    assert (Fault("kv2.vault.azure.net", Hang()),) == dev.fault_injection.faults()


def test_a_fault_keeps_its_inner_code(dev: DevVaultData) -> None:
    """It distinguishes a firewall from a missing permission."""
    fault = Fault("kv1", RespondStatus(403, code="ForbiddenByFirewall"))
    dev.fault_injection.add_fault(fault)
    assert (fault,) == dev.fault_injection.faults()
