"""Keyferry behaves like upstream, except for the differences that docs/ lists."""

from __future__ import annotations

import re

import pytest

from tests.compat.comparison import Comparison
from tests.compat.secret_table import ON_ALL_SECRETS
from tests.compat.stacks import ALL_UPSTREAM, PAIRINGS, Pairing, Side
from tests.compat.table import cases
from tests.compat.vault_contents import UNKNOWN

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]

NAMES = [case.name for case in cases(UNKNOWN)]
OTHERS = [pairing for pairing in PAIRINGS if pairing != ALL_UPSTREAM]


@pytest.mark.parametrize("pairing", OTHERS, ids=lambda pairing: pairing.name)
@pytest.mark.parametrize("name", NAMES)
async def test_case_has_the_outcome_of_upstream(
    compared: Comparison, name: str, pairing: Pairing
) -> None:
    """Files, modes, pod status, Secrets and the code of a refusal, but for what differs."""
    case = next(case for case in cases(compared.contents) if case.name == name)
    expected = compared.outcomes[name, ALL_UPSTREAM]
    for difference in (*case.differs, ON_ALL_SECRETS):
        side = pairing.driver if difference.driver else pairing.provider
        if side is Side.KEYFERRY:
            expected = difference.change(expected)
    assert [] == expected.differences(compared.outcomes[name, pairing])


@pytest.mark.parametrize("pairing", PAIRINGS, ids=lambda pairing: pairing.name)
@pytest.mark.parametrize("name", [case.name for case in cases(UNKNOWN) if case.says])
async def test_a_refusal_says_what_people_search_for(
    compared: Comparison, name: str, pairing: Pairing
) -> None:
    """The message of each stack contains the words that identify the reason."""
    case = next(case for case in cases(compared.contents) if case.name == name)
    refusal = compared.outcomes[name, pairing].refusal
    assert refusal is not None
    assert re.search(case.says, refusal.text), refusal.text
