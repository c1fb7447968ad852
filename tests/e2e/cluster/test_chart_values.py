"""Values of the Helm chart: wrong ones are refused, and those of upstream are accepted."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cluster.chart import Manifest, container, helm_template, one, refused, render
from tests.e2e.cluster.programs import built_programs
from tests.unit.chart.values import CHART, MISSPELT, MOVED, UPSTREAM, WRONG, defaults


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"syncSecret": {"enabled": True}}, "list the namespaces in syncSecret.namespaces"),
        ({"syncSecret": {"namespaces": ["shop"]}}, "also set syncSecret.enabled=true"),
        (
            {"syncSecret": {"enabled": True, "namespaces": ["shop"], "clusterWide": True}},
            "remove syncSecret.namespaces or syncSecret.clusterWide",
        ),
        ({"versionHmac": {"enabled": False, "create": True}}, "remove versionHmac.create"),
        (
            {"linux": {"metricsAddr": ":9808"}},
            "livenessProbe.port: linux.metricsAddr has the same port",
        ),
        ({"linux": {"podLabels": {"app": "x"}}}, "linux.podLabels: the label app selects the Pods"),
        ({"commonLabels": {"app.kubernetes.io/instance": "x"}}, "commonLabels: the label app.kub"),
        ({"serviceAccount": {"create": False}}, "set serviceAccount.name"),
        ({"linux": {"dnsPolicy": "None"}}, "set linux.dnsConfig.nameservers"),
        (
            {"linux": {"image": {"repository": "registry.k8s.io/csi-secrets-store/driver"}}},
            "linux.image.repository",
        ),
    ],
)
async def test_invalid_values_are_rejected(values: Manifest, said: str) -> None:
    """Before anything is installed, with the name of the value."""
    assert said in await refused(values)


async def test_wrong_values_are_rejected() -> None:
    """Misspelt names and wrong types by the schema; values of other charts with an explanation."""
    cases = [
        *((f"additional properties '{name}' not allowed", each) for name, each in MISSPELT.items()),
        *((f"- at '{place}", each) for place, each in WRONG),
        *MOVED,
    ]
    answers = await asyncio.gather(*(refused(values) for _, values in cases))
    assert [] == [
        case for case, answer in zip(cases, answers, strict=True) if case[0] not in answer
    ]


async def test_all_problems_are_reported_at_once() -> None:
    """One per line."""
    said = await refused({"image": {"tag": "v1"}, "syncSecret": {"enabled": True}})
    assert "2 problems:\n* syncSecret.enabled" in said
    assert "\n* image: this chart has no such value. Did you mean linux.image?\n" in said


@pytest.mark.parametrize("values", UPSTREAM.values(), ids=UPSTREAM)
async def test_values_of_upstream_are_accepted(values: Manifest) -> None:
    """Complete values of its charts, as they are."""
    manifests = await render(values)
    if values.get("driver", {}).get("enabled", True):
        assert "secrets-store" == container(manifests)["name"]


async def test_values_do_not_repeat_what_the_chart_sets() -> None:
    """A label, a node label and a folder that the chart also has, as in upstream's charts."""
    folder = "/etc/kubernetes/secrets-store-csi-providers"
    manifests = await render(
        {
            "commonLabels": {"app.kubernetes.io/version": "2"},
            "linux": {
                "providersDir": folder,
                "nodeSelector": {"kubernetes.io/os": "linux", "pool": "a"},
                "podLabels": {"app.kubernetes.io/name": "secrets"},
            },
        },
    )
    template = one(manifests, "DaemonSet")["spec"]["template"]
    assert {"kubernetes.io/os": "linux", "pool": "a"} == template["spec"]["nodeSelector"]
    assert "secrets" == template["metadata"]["labels"]["app.kubernetes.io/name"]
    assert {"2"} == {each["metadata"]["labels"]["app.kubernetes.io/version"] for each in manifests}
    mounts = [each["mountPath"] for each in container(manifests)["volumeMounts"]]
    assert 1 == mounts.count(folder)
    assert len(mounts) == len(set(mounts)) == len(template["spec"]["volumes"])


async def test_a_value_without_content_breaks_nothing() -> None:
    """`null` removes a default: it is refused, or the chart renders without it."""

    async def check(path: tuple[str, ...]) -> None:
        values: Any = None
        for name in reversed(path):
            values = {name: values}
        status, out, errors = await helm_template(values, "1.34.0")
        assert 0 == status or "missing propert" in errors or "got null" in errors, errors
        assert not re.search(r"\bnull\b|<nil>", out), path

    await asyncio.gather(*(check(path) for path in paths(defaults())))


async def test_values_of_an_older_chart_are_enough() -> None:
    """`helm upgrade --reuse-values` does not know the defaults of values that were added."""
    added = dict.fromkeys(
        (
            "podMonitor",
            "prometheusRule",
            "grafanaDashboard",
            "networkPolicy",
            "serviceAccount",
            "driver",
            "secretSync",
        )
    )
    assert await render({}) == await render({**added, "extraObjects": None})


def paths(values: Manifest, *above: str) -> Iterator[tuple[str, ...]]:
    """The paths of all values and of the maps above them."""
    for name, value in values.items():
        yield (*above, name)
        if isinstance(value, dict):
            yield from paths(value, *above, name)


async def test_notes_name_values_without_effect(tmp_path: Path) -> None:
    """Those of upstream that are set, and no others."""
    copy = tmp_path / "keyferry"
    shutil.copytree(CHART, copy)
    (copy / "templates" / "shown.yaml").write_text(
        'kind: List\nlines: {{ include "keyferry.ignored" . | fromYamlArray | toJson }}\n'
    )
    assert [] == one(await render({}, chart=copy), "List")["lines"]
    lines = one(await render(UPSTREAM["driver"], chart=copy), "List")["lines"]
    assert "linux.registrar: Keyferry registers itself" in lines
    assert not [line for line in lines if line.startswith("windows")]
    (windows,) = one(await render({"windows": {"enabled": True}}, chart=copy), "List")["lines"]
    assert windows.startswith("windows: Keyferry runs on Linux nodes only")


async def test_the_chart_passes_the_linter() -> None:
    """Also its warnings."""
    helm = (await built_programs()).helm
    run = await asyncio.to_thread(
        subprocess.run,
        [str(helm), "lint", "--strict", "--kube-version=1.34.0", str(CHART)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == run.returncode, run.stdout
