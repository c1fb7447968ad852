"""Keyferry's Vault provider behaves the same behind both drivers and built in."""

from __future__ import annotations

import re

import pytest

from tests.compat.bao_comparison import BAO_PAIRINGS, BaoComparison
from tests.compat.bao_contents import UNKNOWN_BAO
from tests.compat.bao_table import MADE_FOR_A_POD, bao_cases
from tests.compat.outcome import Outcome
from tests.compat.secret_table import ON_ALL_SECRETS
from tests.compat.stacks import ALL_KEYFERRY, KEYFERRY_PARTS, KEYFERRY_PROVIDER, Pairing, Side

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]

CASES = {case.name: case for case in bao_cases(UNKNOWN_BAO)}
OTHERS = [pairing for pairing in BAO_PAIRINGS if pairing != KEYFERRY_PROVIDER]


@pytest.mark.parametrize("pairing", OTHERS, ids=lambda pairing: pairing.name)
@pytest.mark.parametrize("name", [name for name in CASES if name not in MADE_FOR_A_POD])
async def test_case_has_the_outcome_of_the_upstream_driver(
    bao_compared: BaoComparison, name: str, pairing: Pairing
) -> None:
    """Files, modes, versions, pod status, Secrets and the code of a refusal."""
    expected = bao_compared.outcomes[name, KEYFERRY_PROVIDER]
    for difference in (*CASES[name].differs, ON_ALL_SECRETS):
        if difference.driver and pairing.driver is Side.KEYFERRY:
            expected = difference.change(expected)
    assert [] == expected.differences(bao_compared.outcomes[name, pairing])


@pytest.mark.parametrize("pairing", BAO_PAIRINGS, ids=lambda pairing: pairing.name)
@pytest.mark.parametrize("name", CASES)
async def test_a_case_ends_as_it_should(
    bao_compared: BaoComparison, name: str, pairing: Pairing
) -> None:
    """With files, or with a refusal that says why, in the words that people search for."""
    outcome, says = bao_compared.outcomes[name, pairing], CASES[name].says
    if says:
        assert outcome.refusal is not None
        assert re.search(says, outcome.refusal.text), outcome.refusal.text
        assert Outcome(outcome.refusal) == outcome
    else:
        assert outcome.refusal is None, outcome.refusal
        assert outcome.files


IN_FRONT = {
    KEYFERRY_PROVIDER: "failed to mount secrets store objects for pod PAIRING/{name}, err: "
    "rpc error: code = Unknown desc = ",
    KEYFERRY_PARTS: "provider 'vault' failed: ",
    ALL_KEYFERRY: "",
}
"""Prefix of the provider's message in each stack."""


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.says])
async def test_refusal_has_the_same_code_and_message_in_each_stack(
    bao_compared: BaoComparison, name: str
) -> None:
    """`UNKNOWN`, and the error of the provider as it is."""
    tails = set()
    for pairing, in_front in IN_FRONT.items():
        refusal = bao_compared.outcomes[name, pairing].refusal
        assert refusal is not None
        text = refusal.text.replace(pairing.name, "PAIRING")
        expected = in_front.format(name=name)
        assert text.startswith(f"{expected}error making mount request: ")
        tails.add((refusal.code, text.removeprefix(expected)))
    assert ["UNKNOWN"] == [code for code, _ in tails]
