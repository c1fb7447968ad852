"""The CSI conformance suite (csi-sanity) against a real driver process and a development vault."""

from __future__ import annotations

import re
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.e2e.node import MACHINE, NAMESPACE, Files, Node, files_below
from tests.e2e.sanity_relay import relaying
from tests.fakes.mounts import mounted_below

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "development" / "conformance.md"
BUILD_SECONDS = 1800


@pytest.fixture(scope="module")
def csi_sanity() -> str:
    """The path of the csi-sanity program, built once."""
    build = subprocess.run(
        [ROOT / "scripts" / "tools.sh", "csi-sanity"], check=False, capture_output=True, text=True
    )
    assert 0 == build.returncode, build.stderr
    return build.stdout.strip()


@pytest.mark.timeout(BUILD_SECONDS)
async def test_every_spec_that_applies_to_a_node_plugin_passes(node: Node, csi_sanity: str) -> None:
    """Passed and skipped specs match docs/development/conformance.md, and none fails."""
    node.vault.set_secret("contoso", "db-password", "s3cret")
    node.vault.grant("contoso", MACHINE)
    node.write_class("sanity", {"db-password": "db/password"})
    driver = await node.start_driver()
    seen: list[tuple[list[str], Files]] = []

    def look(target: Path) -> None:
        content = files_below(target / (target / "..data").readlink())
        seen.append((_file_systems(target), content))

    report = node.folder / "report.xml"
    socket = node.folder / "relay.sock"
    context = {
        "secretProviderClass": "sanity",
        "csi.storage.k8s.io/pod.name": "sanity",
        "csi.storage.k8s.io/pod.namespace": NAMESPACE,
        "csi.storage.k8s.io/pod.uid": "22222222-3333-4444-8555-666666666666",
    }
    async with relaying(socket, node.socket, context=context, published=look) as relay:
        output = await node.children.run(
            "csi-sanity",
            csi_sanity,
            f"-csi.endpoint=unix://{socket}",
            f"-csi.mountdir={node.folder / 'target'}",
            f"-csi.stagingdir={node.folder / 'staging'}",
            r"-ginkgo.skip=\[Controller Server\]",
            f"-ginkgo.junit-report={report}",
            "-ginkgo.no-color",
        )
    await driver.stop()
    results = specs(report)

    assert {"passed", "skipped", "pending"} == set(results.values()), output
    passed = [name for name, status in results.items() if status == "passed"]
    skipped = [name for name, status in results.items() if status != "passed"]
    assert sorted(documented("Passed")) == sorted(passed)
    assert sorted(documented("Skipped")) == sorted(skipped)
    assert relay.calls["NodePublishVolume"] > len(seen) > 10
    assert [(["tmpfs"], {"db/password": (0o644, b"s3cret")})] * len(seen) == seen
    assert [] == mounted_below(node.folder)


def test_every_skipped_spec_has_a_reason() -> None:
    """docs/development/conformance.md gives a reason for each group of skipped specs."""
    groups = f"\n{section('Skipped')}".split("\n### ")[1:]
    assert groups
    for group in groups:
        reason = group.split("\n- ")[0].partition("\n")[2].strip()
        assert reason.endswith("."), group


def specs(report: Path) -> dict[str, str]:
    """Return the status of each spec by its full name, from a JUnit report of ginkgo."""
    return {
        re.sub(r"^\[It\] ", "", str(case.get("name"))): str(case.get("status"))
        for case in ET.parse(report).getroot().iter("testcase")
        if str(case.get("name")).startswith("[It] ")
    }


def documented(heading: str) -> list[str]:
    """Return the specs that the page lists below a heading."""
    return re.findall(r"^- `(.+)`$", section(heading), flags=re.MULTILINE)


def section(heading: str) -> str:
    """Return the text of the page below a level-two heading."""
    text = PAGE.read_text().split(f"\n## {heading}\n")[1]
    return text.split("\n## ")[0]


def _file_systems(target: Path) -> list[str]:
    lines = [line.split(" ") for line in Path("/proc/mounts").read_text().splitlines()]
    return [kind for _, point, kind, *_ in lines if point == str(target)]
