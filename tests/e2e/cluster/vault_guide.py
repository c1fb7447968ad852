"""Run every command of docs/guides/vault.md on a cluster."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from tests.e2e.cluster.images import BUSYBOX
from tests.e2e.cluster.vault_cluster import VaultCluster
from tests.e2e.vault.postgres import MANAGER, MANAGER_PASSWORD
from tests.e2e.vault.programs import server_programs
from tests.fakes.guides import GUIDES, commands, shell

EXAMPLES = Path(__file__).parents[3] / "examples" / "vault"
STEPS = (
    "1. Start a server",
    "2. Configure Kubernetes auth",
    "3. Create a secret, a policy and a role",
    "4. Create the SecretProviderClass and the pod",
    "Other auth methods",
    "Dynamic database credentials",
    "Certificates",
)
PATIENT = "for i in $(seq 300); do bao status > /dev/null 2>&1 && break; sleep 0.1; done"
"""Wait for the server; a user who types the commands need not."""
SECONDS = 200


async def run_guide(bao: VaultCluster, folder: Path) -> str:
    """Run the guide, from starting a server to five pods; return the output of the commands.

    Raises:
        AssertionError: a command failed.
    """
    cluster = bao.installed.cluster
    for example in EXAMPLES.glob("*.yaml"):
        text = example.read_text()
        offline = text.replace("image: busybox", f"image: {BUSYBOX}\n      imagePullPolicy: Never")
        assert offline != text
        (folder / example.name).write_text(offline)
    script = "\n".join(commands(GUIDES / "vault.md", step) for step in STEPS)
    for written, here in (
        ("ADDRESS=192.0.2.10", f"ADDRESS={cluster.network.node}"),
        ("-dev-listen-address=$ADDRESS:8200 &", "-dev-listen-address=$ADDRESS:8200 > log 2>&1 &"),
        ("BAO_TOKEN=root", f"BAO_TOKEN=root\n{PATIENT}"),
        ("examples/vault/", f"{folder}/"),
        ("condition=Ready", "condition=Ready --timeout=60s"),
    ):
        assert written in script
        script = script.replace(written, here)
    folders = (server_programs().bao.parent, cluster.programs.kubernetes)
    environment = {
        "PATH": ":".join([*map(str, folders), os.environ["PATH"]]),
        "HOME": str(folder),
        "KUBECONFIG": str(cluster.kubeconfig),
        "DATABASE": f"127.0.0.1:{bao.postgres.port}",
        "MANAGER": MANAGER,
        "MANAGER_PASSWORD": MANAGER_PASSWORD,
    }

    def run() -> str:
        with shell(folder, script, environment) as process:
            output, _ = process.communicate(timeout=SECONDS)
        assert 0 == process.returncode, output
        return output

    try:
        return await asyncio.to_thread(run)
    finally:
        await bao.installed.kubectl("delete", "namespace", "shop", "--wait=false")
