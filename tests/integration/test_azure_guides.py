"""docs/guides/azure-*.md: the commands for a laptop, run as they are written."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from tests.integration.test_azure_identities import Certificate, new_certificate

ROOT = Path(__file__).parents[2]
GUIDES = sorted((ROOT / "docs" / "guides").glob("azure-*.md"))
SECONDS = 50
BLOCK = re.compile(r"^## Try it on a laptop$.*?^```sh$(.*?)^```$", re.MULTILINE | re.DOTALL)
KEYFERRY = f'keyferry() {{ "{sys.executable}" -m keyferry "$@"; }}'
"""The command of this environment, whether it is installed in the path or not."""
WAIT = "while [ ! -e share/keyferry/devvault/connection.json ]; do sleep 0.05; done"
"""A person is slower than a vault that starts; a script is not."""


@pytest.fixture(scope="module")
def certificate() -> Certificate:
    """The certificate of the service principal."""
    return new_certificate()


def commands(guide: Path) -> str:
    """The block of a guide, with the paths of the test in the place of those of a person."""
    found = BLOCK.search(guide.read_text())
    assert found is not None
    block = found[1].replace("examples/azure", str(ROOT / "examples" / "azure"))
    block = block.replace("/tmp/shop", "shop").replace("~/.local/share", "share")
    return block.replace("devvault run &", f"devvault run > vault.log 2>&1 &\n{WAIT}")


def write_credentials(folder: Path, mode: str, certificate: Certificate) -> None:
    """What the reader has from the step before: the certificate, and the Secret as YAML."""
    data = {"clientid": "CLIENT_ID", "clientsecret": "s3cret"}
    if mode == "service-principal-certificate":
        data = {"clientid": "CLIENT_ID", "clientcertificate": certificate.pem()}
    secret = {"apiVersion": "v1", "kind": "Secret", "stringData": data}
    (folder / "creds.yaml").write_text(yaml.safe_dump(secret | {"metadata": {"name": "creds"}}))
    (folder / "cert.pem").write_text(certificate.public)


@contextmanager
def shell(folder: Path, script: str) -> Iterator[subprocess.Popen[str]]:
    """A shell with everything that it starts, until the block ends."""
    process = subprocess.Popen(
        ["bash", "-e", "-c", f"{KEYFERRY}\n{script}"],
        cwd=folder,
        env=os.environ | {"XDG_DATA_HOME": str(folder / "share")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        with process:
            try:
                yield process
            finally:
                # The group lives on in the background vault.
                os.killpg(process.pid, signal.SIGKILL)
    finally:
        unmount = [sys.executable, "-m", "keyferry", "unmount", str(folder / "shop")]
        subprocess.run(unmount, check=True, capture_output=True, timeout=SECONDS)


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.stem)
def test_the_commands_for_a_laptop_work_as_they_are_written(
    tmp_path: Path, certificate: Certificate, guide: Path
) -> None:
    """From nothing to the file, with the class of the example."""
    write_credentials(tmp_path, guide.stem.removeprefix("azure-"), certificate)
    with shell(tmp_path, f"{commands(guide)}\ncat shop/SECRET_1") as process:
        # The client secret, where one is asked for.
        output, _ = process.communicate("s3cret\n", timeout=SECONDS)
    assert output.splitlines()[-1:] == ["Hello!"]
