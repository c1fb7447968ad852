"""The tables and budgets of a run of the benchmark."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.budgets import BUDGETS, budgets_table, outcomes, plain
from bench.report import report
from bench.runs import KEYFERRY, NO_ISOLATION, Record, Run, Spread
from bench.suite import LOADS, NAMES, order
from bench.table import Table, number, ratio_cell, short_number, value_cell
from bench.tables import all_figures_table, key_vault_table, missing_figures, summary_table
from keyferry.records import replace
from tests.fakes.bench_run import example_run


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ((20.0,), "20 ms"),
        ((20.0, 20.0), "20 ms"),
        ((1.0, 2.5, 3.0), "2.5 ms (1-3)"),
        ((1151.2, 1200.0), "1,176 ms (1,151-1,200)"),
        (None, ""),
    ],
)
def test_value_cell_shows_median_and_range(values: tuple[float, ...] | None, text: str) -> None:
    """A range only if the values differ."""
    assert text == value_cell(None if values is None else Spread(values), " ms")


def test_ratio_needs_both_values() -> None:
    """And a base that is not zero."""
    assert "10.0 x" == ratio_cell(Spread((10.0,)), Spread((1.0,)))
    assert "" == ratio_cell(None, Spread((1.0,)))
    assert "" == ratio_cell(Spread((1.0,)), Spread((0.0,)))


def test_numbers_have_a_sensible_precision() -> None:
    """Three digits in tables, less in summaries."""
    assert ["0.0566", "5.63", "83.2", "1,151"] == list(
        map(number, (0.05662, 5.6296, 83.17, 1151.1))
    )
    assert ["0.06", "5.63", "10.4", "83", "100"] == list(
        map(short_number, (0.05662, 5.6296, 10.44, 83.17, 100.0))
    )


def test_text_table_aligns_and_wraps() -> None:
    """A row with one cell is a heading."""
    table = Table(("load", "value"), (False, True), [("Group",), ("two words", "1 ms")])
    assert table.text(wrap=(5, 9)) == ("load   value\n-----  -----\n\nGroup\ntwo     1 ms\nwords\n")
    assert table.markdown().startswith("| load | value |\n|---|---:|\n")


def test_tables_show_the_spread_of_all_sides() -> None:
    """First mounts with a round trip of 20 ms, in text and in Markdown."""
    text = summary_table(example_run()).text()
    assert "28.4 ms (26.7-30.4)" in text
    assert "523 ms (492-560)" in text
    assert "| 28.4 ms (26.7-30.4) | 27.9 ms (26.2-29.9) | 523 ms (492-560) | 18.4 x |" in (
        key_vault_table(example_run()).markdown()
    )


def test_table_of_all_figures_has_each_figure_once() -> None:
    """For each load."""
    run = example_run()
    table = all_figures_table(run)
    expected = {(one.load, name) for one in run.records for name in one.figures}
    assert sorted(expected) == sorted((row[0], row[1]) for row in table.rows)


def test_missing_figures_are_named() -> None:
    """A figure that the documentation shows and nobody measured."""
    run = example_run()
    run.records = [record for record in run.records if record.load != "quiet_node"]
    assert ["quiet_node/percent"] == missing_figures(run)


def test_budget_is_met_only_if_all_its_figures_are() -> None:
    """50 objects are over the budget of first mounts, memory of both isolation modes is within."""
    verdicts = {one.budget.what: one.met for one in outcomes(example_run())}
    assert False is verdicts["first mount of n objects, n <= 50, token cached, round trip 20 ms"]
    assert verdicts["memory of the whole container, isolated providers"]
    assert verdicts["memory of the whole container, `--isolation=none`"]


def test_budget_of_the_default_isolation_does_not_use_figures_without_isolation() -> None:
    """The sides are not confused."""
    run = example_run()
    run.records = [one for one in run.records if (one.load, one.side) != ("starts", KEYFERRY)]
    run.add("starts", KEYFERRY, 1, {"ready_mib": 75.1, "start_s": 0.2})
    verdicts = {one.budget.what: one.met for one in outcomes(run)}
    assert False is verdicts["memory of the whole container, isolated providers"]
    assert verdicts["memory of the whole container, `--isolation=none`"]
    assert verdicts["start until ready"]


def test_budget_without_figures_is_neither_met_nor_missed() -> None:
    """An empty run."""
    empty = Run("a", "2026-01-01T12:00:00Z")
    assert {None} == {one.met for one in outcomes(empty)}
    assert "NOT MET" not in budgets_table(empty, plain).text()


def test_figures_of_the_budgets_exist() -> None:
    """A renamed figure would silently be `not measured`."""
    run = example_run()
    assert [] == [one.budget.what for one in outcomes(run) if one.met is None and one.budget.parts]
    assert all(one.parts or one.elsewhere for one in BUDGETS)


def test_loads_of_the_suite_are_those_of_the_tables() -> None:
    """Each load has a row, and each row a load."""
    run = example_run()
    assert set(NAMES) == {one.load for one in run.records}
    sides = {load.name: {side.name for side in load.sides} for load in LOADS}
    for load in ("starts", "nodes", "first_mounts", "shared_objects"):
        assert {KEYFERRY, NO_ISOLATION, "upstream"} == sides[load]


def test_sides_take_turns() -> None:
    """A B C A B C; an older version takes part where it can."""
    load = next(load for load in LOADS if load.name == "nodes")
    sides = [KEYFERRY, NO_ISOLATION, "upstream"]
    turns = [(repeat, side.name) for repeat, side in order(load, quick=False, before=None)]
    assert [(repeat, side) for repeat in (1, 2, 3) for side in sides] == turns
    assert sides == [side.name for _, side in order(load, quick=True, before=None)]
    older = replace(load.sides[0], name="before")
    assert [*sides, "before"] == [side.name for _, side in order(load, quick=True, before=older)]
    starts = next(load for load in LOADS if load.name == "starts")
    assert "before" not in {side.name for _, side in order(starts, quick=True, before=older)}


def test_report_ends_with_warnings_if_the_machine_was_busy() -> None:
    """Otherwise with the command that publishes the run."""
    quiet = report(example_run(), Path("out"))
    assert quiet.endswith("Publish them: python -m bench.readable out")
    busy = report(example_run(busy=True), Path("out"))
    assert "WARNING: other processes used 70% of a core during the run." in busy
    assert busy.endswith("These figures should not be published.")
    assert "Example CPU" in busy
    assert "70.0% during it" in busy
    assert "steal" in busy


def test_figures_of_another_side_do_not_enter_a_table() -> None:
    """Only the records with the name of the side."""
    run = example_run()
    before = key_vault_table(run).markdown()
    run.records.append(Record(run.run, "starts", "before", 1, {"start_s": 99.0}))
    assert before == key_vault_table(run).markdown()
