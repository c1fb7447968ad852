"""docs/guides/azure-*.md: the commands for a laptop, run as they are written."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.guides import COMMAND_TIMEOUT_SECONDS, GUIDES, commands, shell, unmount

ROOT = Path(__file__).parents[2]
WAIT = "while [ ! -e shop/vault/connection.json ]; do sleep 0.05; done"


def laptop(guide: Path) -> str:
    """The blocks for a laptop, with the folder of the test in the place of /tmp."""
    block = commands(guide, "Try it on a laptop")
    assert "sleep 2 # until the emulator listens\n" in block
    block = block.replace("sleep 2 # until", f"{WAIT} # until")
    return block.replace("/tmp/shop", "shop").replace("examples/azure", f"{ROOT}/examples/azure")


@pytest.mark.parametrize("guide", sorted(GUIDES.glob("azure-*.md")), ids=lambda guide: guide.stem)
def test_laptop_commands_work_as_written(tmp_path: Path, guide: Path) -> None:
    """From an empty machine to the file, with the example's SecretProviderClass, and back."""
    try:
        with shell(tmp_path, laptop(guide), {"HOME": str(tmp_path)}) as process:
            output, _ = process.communicate(timeout=COMMAND_TIMEOUT_SECONDS)
    finally:
        unmount(tmp_path / "shop" / "files")
    assert 0 == process.returncode, output
    assert "Hello!unmounted shop/files" in output.splitlines()
    assert [] == list(tmp_path.iterdir())
