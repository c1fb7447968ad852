"""docs/guides: the commands for a laptop in the guides of options, run as they are written."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.guides import COMMAND_TIMEOUT_SECONDS, GUIDES, commands, shell, unmount

ROOT = Path(__file__).parents[2]
WAIT = "while [ ! -e shop/vault/connection.json ]; do sleep 0.05; done"
VARIABLES = """\
DB_PASSWORD='value of db-password'
PAYMENT_API_KEY='value of api-key'
"""
VALUES_IN_DOCUMENTS = """\
orders/password:Hello!
orders/port:5432
orders/username:shop
mail-host:mail.example.com
mail-password:secret
"""
FILES_OF_SEVERAL_VAULTS = """\
shop/files/api-key:of fabrikam
shop/files/db-password:of contoso
shop/files/replica-password:of fabrikam
"""
FILES_OF_OTHER_USERS = """\
shop/files/api-key 440 1000:2000
shop/files/db-password 400 999:0
"""


def run_laptop_commands(folder: Path, guide: str) -> str:
    """Run the blocks for a laptop, and return what they print.

    They use a folder of the test instead of one in /tmp, which does not exist afterwards.
    """
    script = commands(GUIDES / f"{guide}.md", "Try it on a laptop")
    assert "sleep 2 # until the emulator listens\n" in script
    script = script.replace("sleep 2 # until", f"{WAIT} # until")
    script = script.replace("/tmp/shop", "shop").replace("examples/", f"{ROOT}/examples/")
    try:
        with shell(folder, script, {"HOME": str(folder)}) as process:
            output, _ = process.communicate(timeout=COMMAND_TIMEOUT_SECONDS)
    finally:
        unmount(folder / "shop" / "files")
    assert 0 == process.returncode, output
    assert [] == list(folder.iterdir())
    return output


@pytest.mark.mounts
def test_commands_of_file_owner(tmp_path: Path) -> None:
    """The files belong to other users than root, as the page shows."""
    output = run_laptop_commands(tmp_path, "file-owner")
    assert FILES_OF_OTHER_USERS in output
    shown = FILES_OF_OTHER_USERS.replace("shop/", "/tmp/shop/")
    assert shown in (GUIDES / "file-owner.md").read_text()


def test_commands_of_optional_objects(tmp_path: Path) -> None:
    """The pod starts without an object, with a default, and gets it with the next refresh."""
    output = run_laptop_commands(tmp_path, "optional-objects")
    page = (GUIDES / "optional-objects.md").read_text()
    for name in ("feature-key", "greeting"):
        warning = f"warning: optional object secret/{name} is missing"
        assert warning in output
        assert warning in page
    assert "hello" in output
    assert "\nonunmounted" in output  # of `cat`, without a newline


def test_commands_of_templates(tmp_path: Path) -> None:
    """The files are those that the page shows."""
    output = run_laptop_commands(tmp_path, "templates")
    page = (GUIDES / "templates.md").read_text()
    (shown,) = [block for block in page.split("```text\n") if block.startswith("spring.")]
    assert shown.partition("\n```")[0] in output


def test_commands_of_environment_variables(tmp_path: Path) -> None:
    """The file has the names and values that the page shows, and so has `keyferry run`."""
    output = run_laptop_commands(tmp_path, "environment-variables")
    assert f"{VARIABLES}value of api-key\n" in "".join(
        f"{line}\n" for line in output.splitlines() if not line.startswith("DEVELOPMENT")
    )
    assert VARIABLES in (GUIDES / "environment-variables.md").read_text()


def test_commands_of_json_and_yaml_keys(tmp_path: Path) -> None:
    """Each key and each selected value is a file, with the content that the page shows."""
    output = run_laptop_commands(tmp_path, "json-and-yaml-keys")
    assert VALUES_IN_DOCUMENTS in output
    assert VALUES_IN_DOCUMENTS in (GUIDES / "json-and-yaml-keys.md").read_text()


@pytest.mark.mounts
def test_commands_of_several_vaults(tmp_path: Path) -> None:
    """The files have the values of their vaults, as the page shows."""
    output = run_laptop_commands(tmp_path, "several-vaults")
    assert FILES_OF_SEVERAL_VAULTS in output
    shown = FILES_OF_SEVERAL_VAULTS.replace("shop/", "/tmp/shop/")
    assert shown in (GUIDES / "several-vaults.md").read_text()


@pytest.mark.mounts
def test_commands_of_select_objects(tmp_path: Path) -> None:
    """The files of the objects that match are mounted."""
    output = run_laptop_commands(tmp_path, "select-objects")
    files = "  api  0644  3 bytes\n  db  0644  3 bytes\n"
    assert files in output
    assert files in (GUIDES / "select-objects.md").read_text()
