"""The loads of `make bench`: which sides carry each of them, and how often."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass

from bench.arena import KEYFERRY, NO_ISOLATION, UPSTREAM, Arena, Contender
from bench.cost_loads import command_line, unchanged_node
from bench.loads import (
    Effort,
    Figures,
    big_content,
    churn,
    first_mounts,
    long_run,
    nodes,
    shared_objects,
    starts,
    throttled,
)
from bench.vault_loads import open_bao

OneSide = Callable[[Arena, Contender, Effort], Awaitable[Figures]]

ALL = (KEYFERRY, NO_ISOLATION, UPSTREAM)
BOTH = (KEYFERRY, UPSTREAM)
BEFORE = "before"


@dataclass(frozen=True)
class Load:
    """A load of the benchmark.

    Attributes:
        carry: carries it with one side, once.
        sides: who carries it.
        repeats: in a complete run.
        quick_repeats: in a short run.
        before: whether an older version of Keyferry can carry it, too.
    """

    carry: OneSide
    sides: Sequence[Contender] = BOTH
    repeats: int = 3
    quick_repeats: int = 1
    before: bool = False

    @property
    def name(self) -> str:
        return self.carry.__name__


LOADS = (
    Load(starts, ALL, repeats=5, quick_repeats=3),
    Load(command_line, (KEYFERRY,), repeats=3, quick_repeats=2),
    Load(shared_objects, ALL, quick_repeats=2, before=True),
    Load(first_mounts, ALL, quick_repeats=2, before=True),
    Load(nodes, ALL, before=True),
    Load(throttled, repeats=1),
    Load(big_content),
    Load(churn, repeats=1),
    Load(long_run, (KEYFERRY,), repeats=1),
    Load(open_bao, (KEYFERRY,)),
)
UNCHANGED_NODE = unchanged_node
"""All sides carry it at the same time. It has the figures of two loads."""
UNCHANGED_NAMES = ("repeated_publishes", "quiet_node")
NAMES = (*(load.name for load in LOADS), *UNCHANGED_NAMES)


def order(load: Load, *, quick: bool, before: Contender | None) -> Iterator[tuple[int, Contender]]:
    """Return repeats and sides in the order in which they are measured: A B A B.

    Args:
        load: that is carried.
        quick: whether the run is a short one.
        before: an older version of Keyferry; None for none.
    """
    sides = [*load.sides, *([before] if before and load.before else [])]
    for repeat in range(1, (load.quick_repeats if quick else load.repeats) + 1):
        for side in sides:
            yield repeat, side
