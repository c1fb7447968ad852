"""Upstream ignores or refuses each option of Keyferry as docs/operations/migrate.md says."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import pytest_asyncio

from tests.compat.comparison import Comparison
from tests.compat.option_table import (
    CONTENTS,
    OF_THE_ENTRY,
    OPTION_CASES,
    OptionCase,
)
from tests.compat.outcome import Outcome
from tests.compat.stacks import ALL_UPSTREAM
from tests.compat.vault_contents import APP, LOAD_VAULT, VAULT

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]

Outcomes = Mapping[str, Outcome]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def azure_outcomes(compared: Comparison) -> Outcomes:
    """The outcome of each case with the upstream driver and the upstream Azure provider."""
    for name, value in CONTENTS.items():
        compared.vault.set_secret(VAULT, name, value)
    compared.vault.set_secret(LOAD_VAULT, "shared", OF_THE_ENTRY)
    compared.vault.grant(LOAD_VAULT, APP, "get", "list")
    upstream = compared.of(ALL_UPSTREAM)
    await upstream.play([case.azure() for case in OPTION_CASES])
    return {case.name: upstream.outcomes[case.name, ALL_UPSTREAM] for case in OPTION_CASES}


@pytest.mark.parametrize("case", OPTION_CASES, ids=lambda case: case.name)
async def test_upstream_with_its_azure_provider(azure_outcomes: Outcomes, case: OptionCase) -> None:
    check(case, azure_outcomes[case.name], case.says)


def check(case: OptionCase, outcome: Outcome, says: str) -> None:
    """Compare files, owners, Secrets and the message."""
    if says:
        assert outcome.refusal is not None, outcome.files
        assert says in outcome.refusal.text
        assert Outcome(outcome.refusal) == outcome
        return
    assert outcome.refusal is None, outcome.refusal
    expected = {name: (0o644, CONTENTS[name].encode()) for name in case.files}
    assert expected == outcome.files
    assert outcome.complaints == bool(case.secret_of)
    assert {} == outcome.secrets
