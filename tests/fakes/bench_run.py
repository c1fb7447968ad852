"""A made-up run of the benchmark, with three repeats of everything."""

from __future__ import annotations

from bench.runs import KEYFERRY, NO_ISOLATION, UPSTREAM, Run
from bench.tables import missing_figures

VALUES = {
    "first_mounts/at_work_n1_rtt20_ms": (24.1, 23.5, 119),
    "first_mounts/at_work_n5_rtt20_ms": (25.2, 24.6, 203),
    "first_mounts/at_work_n20_rtt20_ms": (28.4, 27.9, 523),
    "first_mounts/at_work_n50_rtt20_ms": (35.9, 34.1, 1151),
    "shared_objects/calls": (0, 0, 400),
    "shared_objects/p50_ms": (3.9, 3.7, 304),
    "nodes/cold_ids10_calls": (100, 100, 1100),
    "nodes/cold_ids10_wall_s": (0.58, 0.55, 10.4),
    "nodes/cold_ids10_cpu_s": (0.61, 0.57, 1.43),
    "nodes/refresh_same_ids10_calls": (100, 100, 1100),
    "nodes/refresh_same_ids10_wall_s": (0.2, 0.2, 10.1),
    "nodes/refresh_same_ids10_cpu_s": (0.4, 0.38, 1.04),
    "nodes/refresh_changed_ids10_calls": (100, 100, 1100),
    "nodes/refresh_changed_ids10_wall_s": (0.42, 0.4, 10.2),
    "nodes/refresh_changed_ids10_cpu_s": (0.79, 0.7, 1.33),
    "nodes/cold_ids10_loaded_mib": (94.2, 78.3, 101),
    "starts/ready_mib": (74.5, 56.3, 57),
    "starts/start_s": (0.24, 0.22, 0.06),
    "starts/mounted_s": (0.41, 0.33, 0.31),
    "starts/start_cpu_s": (0.23, 0.2, 0.05),
    "starts/idle_cpu_s": (0.41, 0.3, 0.06),
    "quiet_node/percent": (0.83, 0.7, 8.2),
    "repeated_publishes/cpu_ms": (0.7, 0.65, 1.9),
    "repeated_publishes/p50_ms": (0.9, 0.85, 2.1),
    "command_line/version_cpu_s": (0.09, 0.09, 0.09),
    "command_line/help_cpu_s": (0.11, 0.11, 0.11),
    "command_line/lint_cpu_s": (0.19, 0.19, 0.19),
    "open_bao/n1_at_work_ms": (29.2, 0, 0),
    "open_bao/n5_at_work_ms": (32.5, 0, 0),
    "open_bao/n20_at_work_ms": (41.3, 0, 0),
    "open_bao/n50_at_work_ms": (60.9, 0, 0),
    "open_bao/n20_bare_ms": (29.1, 0, 0),
    "open_bao/n50_bare_ms": (38.3, 0, 0),
}
"""Figures of Keyferry, without isolation, and of upstream."""
KEYFERRY_ONLY = ("command_line", "open_bao", "long_run")
REPEATS = (1.0, 0.94, 1.07)
"""The figures of each repeat, as factors."""


def example_run(run_id: str = "20260101-120000-abcdef", *, busy: bool = False) -> Run:
    """Return a finished run with each figure that the documentation shows.

    Args:
        run_id: id of the run.
        busy: whether the machine was busy.
    """
    run = Run(run_id, "2026-01-01T12:00:00Z", "2026-01-01T12:12:00Z")
    names = [*VALUES, *(name for name in missing_figures(run) if name not in VALUES)]
    by_load: dict[str, dict[str, tuple[float, float, float]]] = {}
    for name in dict.fromkeys(names):
        load, _, figure = name.partition("/")
        by_load.setdefault(load, {})[figure] = VALUES.get(name, (20.0, 19.0, 41.0))
    for load, figures in by_load.items():
        for repeat, factor in enumerate(REPEATS, 1):
            for index, side in enumerate((KEYFERRY, NO_ISOLATION, UPSTREAM)):
                if index == 0 or load not in KEYFERRY_ONLY:
                    values = {
                        name: _repeated(name, of[index], factor) for name, of in figures.items()
                    }
                    run.add(load, side, repeat, values)
    run.loads = list(by_load)
    run.machine = {"CPU": "Example CPU", "cores": "2", "Keyferry": "0.1.0 (0123456789ab)"}
    run.load = {
        "load_average_before": 0.1, "load_average_after": 1.2,
        "others_before": 0.01, "others_during": 0.7 if busy else 0.02,
        "steal_before": 0.0, "steal_during": 0.001,
        "quiet": not busy,
        "warnings": ["other processes used 70% of a core during the run"] if busy else [],
    }  # fmt: skip
    return run


def _repeated(name: str, value: float, factor: float) -> float:
    """Counts do not differ between repeats."""
    return value * factor if name.endswith(("_s", "_ms", "_mib", "percent")) else value
