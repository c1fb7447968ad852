"""README.md and docs/operations/install.md: the commands for an empty cluster, word for word.

`kubectl` and `helm` are real. `make image` copies the image that this process built before it left
the network of the machine, `kind` loads it into containerd, and `helm install` gets the folder of
this cluster's kubelet in addition.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import dedent

import pytest
import pytest_asyncio

from scripts.image.__main__ import default_name
from tests.e2e.cluster.cluster import Cluster, running_cluster
from tests.e2e.cluster.keyferry_image import write_keyferry_archive

ROOT = Path(__file__).parents[3]
INSTALL = ("README.md", "docs/operations/install.md")
BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TEST = "helm test keyferry --namespace kube-system --logs"

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(500)]


def commands(page: str) -> list[str]:
    """The commands of the first block of a page that installs the chart from a loaded image."""
    blocks = BLOCK.findall((ROOT / page).read_text())
    block = next(each for each in blocks if "kind load" in each)
    found: list[str] = re.findall(r"^\$ (.*)$", dedent(block), re.MULTILINE)
    return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster() -> AsyncIterator[Cluster]:
    """An empty cluster."""
    with TemporaryDirectory(prefix="keyferry-") as folder:
        async with running_cluster(Path(folder) / "c") as running:
            yield running


def write_programs(folder: Path, archive: Path, cluster: Cluster) -> None:
    """Write what a platform engineer has on the PATH."""
    containerd = cluster.containerd
    scripts = {
        "make": f'[ "$*" = image ] && mkdir -p build && cp {archive} build/keyferry.oci.tar',
        "kind": '[ "$1 $2" = "load image-archive" ] && '
        f'ctr --address {containerd.socket} --namespace k8s.io images import "$3"',
        "kubectl": f'{cluster.programs.of_kubernetes("kubectl")} "$@"',
        "helm": f'{cluster.programs.helm} "$@" '
        f'$([ "$1" != install ] || echo --set=linux.kubeletRootDir={cluster.kubelet_root})',
    }
    for name, script in scripts.items():
        (folder / name).write_text(f"#!/bin/bash\n{script}\n")
        (folder / name).chmod(0o755)


@pytest.mark.parametrize("page", INSTALL)
async def test_the_documented_commands_install_on_an_empty_cluster(
    cluster: Cluster, tmp_path: Path, page: str
) -> None:
    """From the image to a driver that is ready on each node; then it is uninstalled."""
    programs, checkout = tmp_path / "bin", tmp_path / "keyferry"
    programs.mkdir()
    checkout.mkdir()
    for name in ("charts", "deploy"):  # the chart links to the CRDs
        shutil.copytree(ROOT / name, checkout / name, symlinks=True)
    archive = await asyncio.to_thread(
        write_keyferry_archive, tmp_path / "image.tar", name=default_name()
    )
    write_programs(programs, archive, cluster)
    environment = os.environ | {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "KUBECONFIG": str(cluster.kubeconfig),
    }

    async def shell(line: str) -> str:
        run = await asyncio.to_thread(
            subprocess.run,
            ["bash", "-c", line],
            cwd=checkout,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert 0 == run.returncode, f"{line}:\n{run.stdout}{run.stderr}"
        return run.stdout

    lines = commands(page)
    assert ["make image", "kubectl create namespace shop"] == [lines[0], lines[2]]
    try:
        for line in lines:
            await shell(line)
        rollout = "kubectl --namespace kube-system rollout status daemonset/keyferry --timeout=120s"
        assert "successfully rolled out" in await shell(rollout)
        assert TEST in (ROOT / "docs/operations/install.md").read_text()
        assert "Succeeded" in await shell(TEST)
    finally:
        await shell("helm uninstall keyferry --namespace kube-system --wait --ignore-not-found")
        await shell("kubectl delete namespace shop --ignore-not-found")
