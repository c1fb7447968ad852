"""docs/guides/azure-*.md: the commands for a laptop, run as they are written."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.fakes.app_certificate import SelfSignedCertificate, new_certificate
from tests.fakes.guides import COMMAND_TIMEOUT_SECONDS, GUIDES, commands, shell, unmount

EXAMPLES = Path(__file__).parents[2] / "examples"
WAIT = "while [ ! -e share/keyferry/devvault/connection.json ]; do sleep 0.05; done"
"""A person is slower than a vault that starts; a script is not."""


@pytest.fixture(scope="module")
def certificate() -> SelfSignedCertificate:
    """The certificate of the service principal."""
    return new_certificate()


def laptop(guide: Path) -> str:
    """The block for a laptop, with the paths of the test in the place of those of a person."""
    block = commands(guide, "Try it on a laptop").replace("examples/azure", str(EXAMPLES / "azure"))
    block = block.replace("/tmp/shop", "shop").replace("~/.local/share", "share")
    return block.replace("devvault run &", f"devvault run > vault.log 2>&1 &\n{WAIT}")


def write_credentials(folder: Path, mode: str, certificate: SelfSignedCertificate) -> None:
    """What the reader has from the step before: the certificate, and the Secret as YAML."""
    data = {"clientid": "CLIENT_ID", "clientsecret": "s3cret"}
    if mode == "service-principal-certificate":
        data = {"clientid": "CLIENT_ID", "clientcertificate": certificate.pem()}
    secret = {"apiVersion": "v1", "kind": "Secret", "stringData": data}
    (folder / "creds.yaml").write_text(yaml.safe_dump(secret | {"metadata": {"name": "creds"}}))
    (folder / "cert.pem").write_text(certificate.certificate_pem)


@pytest.mark.parametrize("guide", sorted(GUIDES.glob("azure-*.md")), ids=lambda guide: guide.stem)
def test_laptop_commands_work_as_written(
    tmp_path: Path, certificate: SelfSignedCertificate, guide: Path
) -> None:
    """From an empty machine to the file, with the example's SecretProviderClass."""
    write_credentials(tmp_path, guide.stem.removeprefix("azure-"), certificate)
    script = f"{laptop(guide)}\ncat shop/SECRET_1"
    try:
        with shell(tmp_path, script, {"XDG_DATA_HOME": str(tmp_path / "share")}) as process:
            # The client secret, where one is asked for.
            output, _ = process.communicate("s3cret\n", timeout=COMMAND_TIMEOUT_SECONDS)
    finally:
        unmount(tmp_path / "shop")
    assert output.splitlines()[-1:] == ["Hello!"]
