"""Which alerts of the chart fire if what two scrapes show goes on, from Prometheus' promtool."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from prometheus_client.parser import text_string_to_metric_families

RULES = Path(__file__).parents[4] / "charts" / "keyferry" / "alerts"
_TOOLS = RULES.parents[2] / "scripts" / "tools.sh"
_MINUTES = 60
"""Longer than the waiting time of any alert."""
_TARGET = {"job": "keyferry", "node": "node-1", "instance": "10.0.0.1:8095"}
_ALERT = re.compile(r"\{__name__=\\?\"ALERTS\\?\", ([^}]*)\}")
_LABEL = re.compile(r'(\w+)=\\?"((?:[^"\\]|\\[^"])*)\\?"')
_Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@dataclass(frozen=True)
class Alert:
    """A firing alert."""

    name: str
    labels: Mapping[str, str]

    @property
    def is_about_a_vault(self) -> bool:
        """Return whether it names a vault, and so the set-ups that use this vault."""
        return "vault" in self.labels

    def concerns(self, namespace: str, provider: str, address: str) -> bool:
        """Return whether a SecretProviderClass can cause it.

        Args:
            namespace: of the SecretProviderClass.
            provider: of the SecretProviderClass.
            address: of its vault.
        """
        if self.labels.get("namespace", namespace) != namespace:
            return False
        if self.labels.get("provider", provider) != provider:
            return False
        return self.labels.get("vault", "") in address


def promtool_path() -> str:
    """Return the path of promtool, which is downloaded once."""
    run = subprocess.run([_TOOLS, "promtool"], check=True, capture_output=True, text=True)
    return run.stdout.strip()


def firing_alerts(
    before: str, after: str, seconds: float, *, promtool: str, folder: Path
) -> list[Alert]:
    """Return the alerts that fire after an hour in which counters grow as between two scrapes.

    Args:
        before: a metrics page.
        after: a later one.
        seconds: between both.
        promtool: the path of the program.
        folder: for its input.
    """
    test = {
        "interval": "1m",
        "input_series": list(_input(_samples(before), _samples(after), seconds)),
        "promql_expr_test": [
            {
                "expr": 'ALERTS{alertstate="firing"}',
                "eval_time": f"{_MINUTES - 1}m",
                "exp_samples": [],
            }
        ],
    }
    document = {
        "rule_files": sorted(str(path) for path in RULES.glob("*.yaml")),
        "evaluation_interval": "1m",
        "tests": [test],
    }
    path = folder / "alerts_test.yaml"
    path.write_text(yaml.safe_dump(document))
    command = [promtool, "test", "rules", str(path)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    output = run.stdout + run.stderr
    assert 0 == run.returncode or "got:" in output, output
    found = [dict(_LABEL.findall(labels)) for labels in _ALERT.findall(output)]
    return [Alert(labels.pop("alertname"), labels) for labels in found]


def _input(before: _Series, after: _Series, seconds: float) -> Iterable[dict[str, Any]]:
    for (name, labels), value in after.items():
        start = before.get((name, labels), 0.0)
        growth = value - start if name.endswith("_total") else 0.0
        pairs = {**dict(labels), **_TARGET}
        inside = ", ".join(f'{key}="{text}"' for key, text in pairs.items())
        step = growth * 60 / seconds
        values = f"{start:g}+{step:g}x{_MINUTES}" if growth else f"{value:g}x{_MINUTES}"
        yield {"series": f"{name}{{{inside}}}", "values": values}
    target = ", ".join(f'{key}="{text}"' for key, text in _TARGET.items())
    yield {"series": f"up{{{target}}}", "values": f"1x{_MINUTES}"}


def _samples(page: str) -> _Series:
    wanted = "".join(path.read_text() for path in RULES.glob("*.yaml"))
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name in wanted
    }
