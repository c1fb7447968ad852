"""bench/runs.py: figures are only compared within one run."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from bench import readable, report
from bench.readable import published_files
from bench.runs import (
    KEYFERRY,
    UPSTREAM,
    Record,
    RunError,
    Spread,
    load_only_run,
    load_run,
    run_from_json,
    save_run,
)
from tests.fakes.bench_run import example_run

OTHER = "20260102-120000-ffffff"


def test_spread_of_a_figure_covers_all_repeats() -> None:
    """Median, smallest and largest value."""
    spread = example_run().spread("nodes", UPSTREAM, "cold_ids10_calls")
    assert Spread((1100, 1100, 1100)) == spread
    spread = Spread((3.0, 1.0, 2.5))
    assert (1.0, 2.5, 3.0) == (spread.low, spread.median, spread.high)


def test_figure_that_was_not_measured_has_no_value() -> None:
    """Neither zero nor an error."""
    run = example_run()
    assert run.spread("nodes", KEYFERRY, "nothing") is None
    assert run.median("long_run", UPSTREAM, "mib_after") is None


def test_saved_run_is_loaded_unchanged(tmp_path: Path) -> None:
    """Also by its folder."""
    run = example_run()
    file = save_run(run, tmp_path)
    for loaded in (load_run(file), load_run(tmp_path)):
        assert run.as_json() == loaded.as_json()
        assert published_files(run) == published_files(loaded)


def test_file_with_figures_of_two_runs_is_refused() -> None:
    """Someone has copied upstream's figures from another run."""
    document, other = example_run().as_json(), example_run(OTHER).as_json()
    document["results"]["nodes"][UPSTREAM] = other["results"]["nodes"][UPSTREAM]
    with pytest.raises(RunError) as raised:
        run_from_json(document, "results.json")
    message = str(raised.value)
    assert f"nodes of upstream from run {OTHER}" in message
    assert "machine, its load and the versions may differ" in message


def test_records_of_another_run_are_not_saved(tmp_path: Path) -> None:
    """The error occurs before anything is written."""
    run = example_run()
    run.records.append(Record(OTHER, "nodes", UPSTREAM, 4, {"calls": 1}))
    with pytest.raises(RunError, match="mixes the figures of two runs"):
        save_run(run, tmp_path)
    assert [] == list(tmp_path.iterdir())


def test_file_without_the_id_of_a_run_is_refused(tmp_path: Path) -> None:
    """Such as the files of older versions."""
    file = tmp_path / "results.json"
    file.write_text(json.dumps({"machine": {}, "results": {}}))
    with pytest.raises(RunError, match="does not contain the id of a run"):
        load_run(file)
    with pytest.raises(RunError, match="Run `make bench` first"):
        load_run(tmp_path / "none.json")


@pytest.mark.parametrize("tool", [readable, report])
def test_tools_refuse_two_files(
    tool: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They say why, and write nothing."""
    paths = [save_run(example_run(name), tmp_path / name) for name in ("one", "two")]
    with pytest.raises(RunError, match="Expected one results file, got 2"):
        load_only_run(paths)
    monkeypatch.setattr(sys, "argv", ["tool", *map(str, paths)])
    with pytest.raises(SystemExit, match="Figures of two runs are not comparable"):
        tool.main()  # type: ignore[attr-defined]
    assert ["results.json"] == [path.name for path in (tmp_path / "one").iterdir()]


def test_complete_run_of_a_quiet_machine_has_no_problems() -> None:
    """It can be published."""
    assert [] == example_run().problems()


def test_problems_name_why_a_run_should_not_be_published() -> None:
    """A short, unfinished, incomplete run of a busy machine has all of them."""
    run = example_run(busy=True)
    run.quick, run.finished, run.loads = True, "", [*run.loads, "new_load"]
    run.failures.append("nodes 2, upstream failed: TimeoutError")
    assert [
        "it is a short run (QUICK=1)",
        "it did not finish",
        "it lacks the loads new_load",
        "the load nodes 2, upstream failed: TimeoutError",
        "other processes used 70% of a core during the run",
    ] == run.problems()


@pytest.mark.parametrize("problem", ["quick", "busy", "incomplete"])
def test_run_with_problems_is_not_published(
    problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless that is forced."""
    run = example_run(busy=problem == "busy")
    run.quick = problem == "quick"
    if problem == "incomplete":
        run.records = [record for record in run.records if record.load != "starts"]
    save_run(run, tmp_path)
    written: list[Path] = []
    monkeypatch.setattr(Path, "write_text", lambda path, _: written.append(path))
    monkeypatch.setattr(sys, "argv", ["readable", str(tmp_path)])
    with pytest.raises(SystemExit, match="Nothing is written"):
        readable.main()
    assert [] == written
    monkeypatch.setattr(sys, "argv", ["readable", str(tmp_path), "--force"])
    readable.main()
    assert [readable.ROOT / path for path in readable.published_files(run)] == written
