"""The design budgets, each with the result of a run. [pure]"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from bench.runs import KEYFERRY, NO_ISOLATION, Run
from bench.table import Table, number
from bench.tables import COUNTS

MET = {True: "met", False: "**not met**", None: "not measured"}
MOUNT_MS = 1.3 * 20 + 5
"""At most 1.3 round trips and 5 ms, with a round trip of 20 ms."""


@dataclass(frozen=True)
class Part:
    """A figure that must not exceed a limit.

    Attributes:
        load: name of the load.
        figure: name of the figure; its median counts.
        limit: at most this; infinite for a figure that is only shown, if it was measured.
        unit: with a space in front.
        label: what the figure is, in front of its value.
        side: whose figure.
        factor_of: a figure of the same load; the limit is then a multiple of its median.
    """

    load: str
    figure: str
    limit: float
    unit: str = ""
    label: str = ""
    side: str = KEYFERRY
    factor_of: str = ""

    def result(self, run: Run) -> tuple[str, bool | None]:
        """Return the result as text, and whether it is within the limit; None: not measured."""
        value, limit = run.median(self.load, self.side, self.figure), self.limit
        if self.factor_of:
            base = run.median(self.load, self.side, self.factor_of)
            if value is None or not base:
                return f"{self.label}not measured", None
            return f"{self.label}{value / base:.2f}{self.unit}", value <= limit * base
        if value is None and limit == math.inf:
            return "", True
        if value is None:
            return f"{self.label}not measured", None
        return f"{self.label}{number(value)}{self.unit}", value <= limit


@dataclass(frozen=True)
class Budget:
    """A budget of the design.

    Attributes:
        what: that is limited.
        limit: as text.
        parts: all of them must be within their limits.
        elsewhere: how a budget without parts is measured.
    """

    what: str
    limit: str
    parts: Sequence[Part] = ()
    elsewhere: str = ""


def _memory(ready: float, loaded: float, side: str) -> tuple[Part, ...]:
    """Return the parts of a budget of memory in MiB.

    The limits do not include kernel memory and the files of volumes, which are only shown.
    """
    return (
        Part("starts", "ready_mib", ready, " MiB", "ready ", side),
        Part("nodes", "cold_ids10_loaded_mib", loaded, " MiB", "loaded ", side),
        Part(
            *("nodes", "cold_ids10_loaded_charged_mib", math.inf, " MiB"),
            label="with kernel memory and volumes ",
            side=side,
        ),
    )


BUDGETS = (
    Budget(
        "first mount of n objects, n <= 50, token cached, round trip 20 ms",
        "1.3 round trips + 5 ms = 31 ms",
        tuple(
            Part("first_mounts", f"at_work_n{n}_rtt20_ms", MOUNT_MS, " ms", f"{n}: ")
            for n in COUNTS
        ),
    ),
    Budget(
        "mount of objects that are cached for another pod of the identity",
        "no vault request, p50 4 ms",
        (
            Part("shared_objects", "calls", 0, " requests"),
            Part("shared_objects", "p50_ms", 4, " ms", "p50 "),
        ),
    ),
    Budget(
        "cold node: 110 pods x 10 objects, 10 identities, round trip 20 ms",
        "100 requests, 0.6 s",
        (
            Part("nodes", "cold_ids10_calls", 100, " requests"),
            Part("nodes", "cold_ids10_wall_s", 0.6, " s"),
        ),
    ),
    Budget(
        "refresh of that node, per interval (10 % may belong to a neighboring interval)",
        "100 requests",
        (
            Part("nodes", "refresh_same_ids10_calls", 110, " requests", "nothing changed "),
            Part("nodes", "refresh_changed_ids10_calls", 110, " requests", "all changed "),
        ),
    ),
    Budget(
        "memory of the whole container, isolated providers",
        "75 MiB ready, 95 MiB after that load",
        _memory(75, 95, KEYFERRY),
    ),
    Budget(
        "memory of the whole container, `--isolation=none`",
        "57 MiB ready, 80 MiB after that load",
        _memory(57, 80, NO_ISOLATION),
    ),
    Budget("start until ready", "0.25 s", (Part("starts", "start_s", 0.25, " s"),)),
    Budget(
        "`keyferry --version`, `--help`, `lint` of one file: CPU time",
        "0.15 s each",
        tuple(
            Part("command_line", f"{name}_cpu_s", 0.15, " s", f"{name} ")
            for name in ("version", "help", "lint")
        ),
    ),
    Budget(
        "publish with nothing to do: CPU time",
        "1 ms",
        (Part("repeated_publishes", "cpu_ms", 1, " ms"),),
    ),
    Budget(
        "quiet node with 110 pods: CPU time",
        "1 % of a core",
        (Part("quiet_node", "percent", 1, " %"),),
    ),
    Budget(
        "OpenBao: first mount of 20 and 50 secrets, compared with the requests without a driver",
        "1.5 x",
        tuple(
            Part("open_bao", f"n{n}_at_work_ms", 1.5, " x", f"{n}: ", factor_of=f"n{n}_bare_ms")
            for n in (20, 50)
        ),
    ),
    Budget(
        "a hostile tenant beside others",
        "no failed publish, no wait over 2 s",
        elsewhere="`make test` (tests of hostile tenants)",
    ),
    Budget(
        "SecretSync: 10,000 objects over 50 identities",
        "first sync 5 min, 180 MiB, new object Ready after 3 s",
        elsewhere="`make bench-syncs`",
    ),
    Budget(
        "API server load of an idle node",
        "only what its own pods need",
        elsewhere="`python -m bench.api_load`",
    ),
)


@dataclass(frozen=True)
class Outcome:
    """A budget with its result.

    Attributes:
        budget: the budget.
        result: as text.
        met: whether all parts are within their limits; None if one was not measured.
    """

    budget: Budget
    result: str
    met: bool | None


def outcomes(run: Run) -> list[Outcome]:
    """Return all budgets with the results of a run."""
    return list(_outcomes(run))


def _outcomes(run: Run) -> Iterator[Outcome]:
    for budget in BUDGETS:
        if not budget.parts:
            yield Outcome(budget, f"measured by {budget.elsewhere}", None)
            continue
        found = [part.result(run) for part in budget.parts]
        judged = [met for _, met in found]
        met = False if False in judged else None if None in judged else True
        yield Outcome(budget, ", ".join(text for text, _ in found if text), met)


def budgets_table(run: Run, shown: Callable[[str], str] = str) -> Table:
    """Return budget, result, and whether it is met.

    Args:
        run: whose figures.
        shown: changes each cell, for example removes Markdown for a terminal.
    """
    table = Table(("load", "budget (at most)", "result", "verdict"), (False, False, False, False))
    for one in outcomes(run):
        verdict = MET[one.met] if one.budget.parts else ""
        cells = (one.budget.what, one.budget.limit, one.result, verdict)
        table.rows.append(tuple(map(shown, cells)))
    return table


def plain(text: str) -> str:
    """Return text without the marks of Markdown."""
    return text.replace("`", "").replace("**not met**", "NOT MET")
