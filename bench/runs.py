"""The results of one run of the benchmark: a JSON file, and its figures with their spread. [pure]

Figures are only comparable within a run: another run has another machine, another load of the
machine and another version of everything. So each record carries the id of its run, and a file
with records of two runs cannot be loaded.

    run = load_run(Path(".bench-output/results.json"))
    run.spread("nodes", "keyferry", "cold_ids10_wall_s").median
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FORMAT = 2
KEYFERRY, UPSTREAM, NO_ISOLATION = "keyferry", "upstream", "keyferry-none"
"""Names of the sides: Keyferry with its defaults, upstream, Keyferry with `--isolation=none`."""

Figures = Mapping[str, float]
"""By name. Seconds end in `_s`, milliseconds in `_ms`, MiB in `_mib`; numbers have no ending."""


_FIELDS = (
    *("run", "started", "finished", "quick", "loads", "machine", "load", "note", "failures"),
)
"""Of a document, apart from its records."""


class RunError(ValueError):
    """A file does not contain the results of exactly one run. The message says why."""


@dataclass(frozen=True)
class Spread:
    """A figure over the repeats of one run.

    Attributes:
        values: one per repeat, in order; at least one.
    """

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def low(self) -> float:
        return min(self.values)

    @property
    def high(self) -> float:
        return max(self.values)


@dataclass(frozen=True)
class Record:
    """The figures of one load, carried once by one side.

    Attributes:
        run: id of the run.
        load: name of the load.
        side: name of the side.
        repeat: 1 for the first.
        figures: by name.
    """

    run: str
    load: str
    side: str
    repeat: int
    figures: Figures


@dataclass
class Run:
    """One run of the benchmark.

    Attributes:
        run: id, unique.
        started: time in UTC, ISO 8601.
        finished: time in UTC; empty while the run is in progress.
        quick: whether it was a short run.
        loads: names of the loads that belong to a complete run of this kind.
        machine: hardware and versions, as text by name.
        load: what else the machine did; see `bench.machine.LoadReport.as_json`.
        note: a remark that is shown with the figures.
        failures: loads that failed, and why.
        records: all figures.
    """

    run: str
    started: str
    finished: str = ""
    quick: bool = False
    loads: Sequence[str] = ()
    machine: Mapping[str, str] = field(default_factory=dict)
    load: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""
    failures: list[str] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)

    def add(self, load: str, side: str, repeat: int, figures: Figures) -> None:
        """Add the figures of one repeat."""
        self.records.append(Record(self.run, load, side, repeat, dict(figures)))

    def spread(self, load: str, side: str, figure: str) -> Spread | None:
        """Return a figure over all repeats; None if it was not measured."""
        values = [
            record.figures[figure]
            for record in self.records
            if (record.load, record.side) == (load, side) and figure in record.figures
        ]
        return Spread(tuple(values)) if values else None

    def median(self, load: str, side: str, figure: str) -> float | None:
        """Return the median of a figure; None if it was not measured."""
        spread = self.spread(load, side, figure)
        return None if spread is None else spread.median

    def names(self, load: str) -> list[str]:
        """Return the names of all figures of a load, in the order in which they were added."""
        found = (record.figures for record in self.records if record.load == load)
        return list(dict.fromkeys(name for figures in found for name in figures))

    def sides(self) -> list[str]:
        """Return the sides in the order in which they were measured."""
        return list(dict.fromkeys(record.side for record in self.records if record.figures))

    def problems(self) -> list[str]:
        """Return why the figures should not be published; empty if they can be."""
        found = []
        if self.quick:
            found.append("it is a short run (QUICK=1)")
        if not self.finished:
            found.append("it did not finish")
        measured = {record.load for record in self.records}
        if missing := [load for load in self.loads if load not in measured]:
            found.append(f"it lacks the loads {', '.join(missing)}")
        found += [f"the load {failure}" for failure in self.failures]
        found += [str(warning) for warning in self.load.get("warnings", ())]
        return found

    def as_json(self) -> dict[str, Any]:
        """Return the document that `run_from_json` reads."""
        results: dict[str, dict[str, list[dict[str, Any]]]] = {}
        for record in self.records:
            repeats = results.setdefault(record.load, {}).setdefault(record.side, [])
            repeats.append(
                {"run": record.run, "repeat": record.repeat, "figures": dict(record.figures)}
            )
        return {
            "format": FORMAT,
            "run": self.run,
            "started": self.started,
            "finished": self.finished,
            "quick": self.quick,
            "loads": list(self.loads),
            "machine": dict(self.machine),
            "load": dict(self.load),
            "note": self.note,
            "failures": list(self.failures),
            "results": results,
        }


def run_from_json(document: Mapping[str, Any], source: str = "the file") -> Run:
    """Return the run of a document.

    Args:
        document: see `Run.as_json`.
        source: where it comes from, for messages.

    Raises:
        RunError: the document has no id of a run, or contains figures of more than one run.
    """
    if document.get("format") != FORMAT or not document.get("run"):
        raise RunError(
            f"{source} does not contain the id of a run (format {FORMAT}). Figures of unknown runs "
            "are not compared. Run `make bench` again."
        )
    run = Run(**{name: document[name] for name in _FIELDS})
    for load, sides in document["results"].items():
        for side, repeats in sides.items():
            for one in repeats:
                run.records.append(
                    Record(one.get("run", ""), load, side, one["repeat"], one["figures"])
                )
    _check_one_run(run, source)
    return run


def _check_one_run(run: Run, source: str) -> None:
    foreign = sorted(
        {
            f"{record.load} of {record.side} from run {record.run or '(none)'}"
            for record in run.records
            if record.run != run.run
        }
    )
    if foreign:
        raise RunError(
            f"{source} mixes the figures of two runs. It is run {run.run}, but it contains "
            f"{', '.join(foreign)}. {_WHY}"
        )


_WHY = (
    "Figures of two runs are not comparable: the machine, its load and the versions may differ. "
    "Measure both sides in one run; for an older version of Keyferry use `--before`."
)


def load_run(path: Path) -> Run:
    """Return the run of a results file.

    Args:
        path: the file, or the folder that contains it as `results.json`.

    Raises:
        RunError: see `run_from_json`; or the file does not exist.
    """
    file = path / "results.json" if path.is_dir() else path
    try:
        document = json.loads(file.read_text())
    except FileNotFoundError:
        raise RunError(f"{file} does not exist. Run `make bench` first.") from None
    return run_from_json(document, str(file))


def load_only_run(paths: Iterable[Path]) -> Run:
    """Return the run of exactly one results file.

    Raises:
        RunError: there is not exactly one file, or see `load_run`.
    """
    files = list(paths)
    if len(files) != 1:
        raise RunError(f"Expected one results file, got {len(files)}. {_WHY}")
    return load_run(files[0])


def save_run(run: Run, folder: Path) -> Path:
    """Write `results.json`, and return its path.

    Raises:
        RunError: the run contains figures of another one.
    """
    file = folder / "results.json"
    _check_one_run(run, str(file))
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(run.as_json(), indent=1) + "\n")
    return file
