"""The chart as Helm renders it."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.e2e.cluster.programs import built_programs
from tests.unit.chart.values import CHART

Manifest = dict[str, Any]


class StrictLoader(yaml.SafeLoader):
    """A loader that accepts no repeated key, of which Kubernetes would use only one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return the map of a node.

        Raises:
            AssertionError: it repeats a key.
        """
        keys = [self.construct_object(key) for key, _ in node.value]
        assert len(keys) == len(set(keys)), keys
        return super().construct_mapping(node, deep)


async def render(values: Manifest, *, kube: str = "1.34.0", chart: Path = CHART) -> list[Manifest]:
    """Render the chart with these values."""
    status, out, errors = await helm_template(values, kube, chart)
    assert 0 == status, errors
    return [each for each in yaml.load_all(out, StrictLoader) if each]


async def refused(values: Manifest) -> str:
    """Return the error of the chart for invalid values."""
    status, _, errors = await helm_template(values, "1.34.0")
    assert 0 != status
    return errors


async def helm_template(values: Manifest, kube: str, chart: Path = CHART) -> tuple[int, str, str]:
    """Return the exit code, the output and the errors of `helm template`."""
    helm = (await built_programs()).helm
    command = [
        str(helm), "template", "keyferry", str(chart), "--namespace=kube-system",
        f"--kube-version={kube}", "--values=-",
    ]  # fmt: skip
    run = await asyncio.to_thread(
        subprocess.run,
        command,
        input=yaml.safe_dump(values),
        capture_output=True,
        text=True,
        check=False,
    )
    return run.returncode, run.stdout, run.stderr


def one(manifests: list[Manifest], kind: str, name: str = "") -> Manifest:
    """Return the only manifest of this kind (and name)."""
    (found,) = [
        each
        for each in manifests
        if each["kind"] == kind and (not name or each["metadata"]["name"] == name)
    ]
    return found


def container(manifests: list[Manifest]) -> Manifest:
    """Return the only container of the DaemonSet."""
    (found,) = one(manifests, "DaemonSet")["spec"]["template"]["spec"]["containers"]
    assert isinstance(found, dict)
    return found
