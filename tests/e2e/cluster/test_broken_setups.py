"""What each tool says about each broken set-up: doctor names the stage, and nothing leaks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import pytest_asyncio

from keyferry.records import replace
from tests.e2e.canaries import search
from tests.e2e.cluster.broken.page import PAGE, overview, section, sections
from tests.e2e.cluster.broken.run import ROWS, Results, observe_all
from tests.e2e.cluster.broken.setup import CANARIES, QUEUED, UNAVAILABLE, BrokenSetup
from tests.e2e.figures import figures

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(1800)]

each_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def results(request: pytest.FixtureRequest) -> AsyncIterator[Results]:
    """Break all set-ups once."""
    with TemporaryDirectory(prefix="keyferry-") as folder:
        found = await observe_all(Path(folder))
    for phase, seconds in found.phases.items():
        figures(request.config).append(f"{phase}: after {seconds:.0f} s")
    quick = {row.name: found.outcomes[row.name].seconds for row in ROWS if not row.hangs}
    slowest = max(quick, key=lambda name: quick[name])
    figures(request.config).append(f"slowest diagnosis: {quick[slowest]:.1f} s ({slowest})")
    for phase, seconds in found.doctor_cpu.items():
        figures(request.config).append(f"processor time of a diagnosis: {seconds:.1f} s ({phase})")
    yield found


@each_row
async def test_doctor_names_the_broken_stage(results: Results, row: BrokenSetup) -> None:
    """Also where lint and describe say what is wrong."""
    outcome = results.outcomes[row.name]
    assert row.doctor == outcome.stage, outcome.problem


@each_row
async def test_alerts_and_lint_are_as_expected(results: Results, row: BrokenSetup) -> None:
    """An alert fires if what the metrics show goes on; lint reads the files of the set-up."""
    outcome = results.outcomes[row.name]
    assert set(row.lint) == {rule for rule, _, _ in outcome.lint}
    optional = {UNAVAILABLE, QUEUED} if row.varies else set()
    assert set(row.alerts) - optional <= set(outcome.alerts) <= set(row.alerts)
    assert row.alerts or row.no_alert


@each_row
async def test_a_tool_names_the_remedy(results: Results, row: BrokenSetup) -> None:
    """Doctor, or lint before the mount."""
    outcome = results.outcomes[row.name]
    assert outcome.remedy or any(hint for _, _, hint in outcome.lint)


@each_row
async def test_the_tools_say_what_the_page_says(results: Results, row: BrokenSetup) -> None:
    """The page was read line by line; it may not change unread.

    After a change: python -m scripts.broken_setups_page
    """
    page, said = PAGE.read_text(), results.said[row.name]
    if row.varies:
        said = replace(said, alerts=tuple(sorted(row.alerts)))
    assert overview(row, said) in page
    if not row.varies:
        assert dict(sections(page)).get(row.title) == section(row, said)


async def test_no_output_contains_a_value(results: Results) -> None:
    """Of all tools, the log of the driver, its metrics, and the descriptions of all objects."""
    assert len(results.outputs) > 2 * len(ROWS)
    for text in results.outputs:
        assert [] == search(text.encode(), CANARIES), text
