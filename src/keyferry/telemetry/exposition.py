"""Reads metrics of other processes from the text format of Prometheus. [pure]

Source: https://github.com/prometheus/docs/blob/main/docs/instrumenting/exposition_formats.md
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")


class Sample(Struct, frozen=True):
    """One value of a series."""

    name: str
    labels: Mapping[str, str]
    value: float


def parse_samples(text: str, names: Collection[str]) -> tuple[Sample, ...]:
    """Return the samples with these names.

    Other lines are skipped before they are parsed, which costs most of the time. So are values that
    are not finite: a limit that does not exist is infinite.

    Args:
        text: in the text format, from a process that need not be trusted.
        names: of samples, such as `keyferry_vault_requests_total`.

    Raises:
        ValueError: a line has another format.
    """
    from prometheus_client.parser import text_string_to_metric_families

    lines = [line for line in text.splitlines() if (name := _NAME.match(line)) and name[0] in names]
    if not lines:
        return ()
    return tuple(
        Sample(sample.name, dict(sample.labels), float(sample.value))
        for family in text_string_to_metric_families("\n".join(lines) + "\n")
        for sample in family.samples
        if sample.name in names and math.isfinite(sample.value)
    )
