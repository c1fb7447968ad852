"""The two distributions of this repository: what their wheels contain, need and offer."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import click
import pytest
from hatchling.builders.wheel import WheelBuilder

import keyferry.cli
from keyferry import __version__
from keyferry.errors import PlatformError
from keyferry.providers.emulator import load_emulator

ROOT = Path(__file__).parents[2]
EMULATOR = ROOT / "src" / "keyferry_devvault"
PRODUCT_PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EMULATOR_PROJECT = tomllib.loads((EMULATOR / "pyproject.toml").read_text())["project"]


def wheel_files(project: Path, folder: Path) -> set[str]:
    """The files in the wheel of a project, without its metadata."""
    (wheel,) = WheelBuilder(str(project)).build(directory=str(folder))
    with ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def tracked(package: Path) -> set[str]:
    """The files of a package in the source tree, by their names in a wheel."""
    not_code = {"pyproject.toml", "README.md", "LICENSE"}
    return {
        path.relative_to(ROOT / "src").as_posix()
        for path in package.rglob("*")
        if path.is_file() and path.name not in not_code and "__pycache__" not in path.parts
    }


def required(project: dict[str, Any]) -> set[str]:
    """The distributions that a project needs, by their names in lower case."""
    return {re.split(r"[^\w.-]", text)[0].lower() for text in project["dependencies"]}


def locked(name: str) -> set[str]:
    """The distributions that a lock file pins."""
    text = (ROOT / "requirements" / name).read_text()
    return {found.lower() for found in re.findall(r"^([\w.-]+)==", text, re.MULTILINE)}


def test_the_production_wheel_contains_no_emulator(tmp_path: Path) -> None:
    """It holds the package keyferry, whole, and nothing else."""
    assert tracked(ROOT / "src" / "keyferry") == wheel_files(ROOT, tmp_path)


def test_the_wheel_of_the_emulator_contains_all_of_it(tmp_path: Path) -> None:
    """Its pyproject.toml lists the modules one by one, because it lies beside them."""
    assert tracked(EMULATOR) == wheel_files(EMULATOR, tmp_path)


def test_both_distributions_have_one_version_and_one_license() -> None:
    """The emulator needs exactly the keyferry of its own version, and the extra vice versa."""
    assert [__version__] * 2 == [PRODUCT_PROJECT["version"], EMULATOR_PROJECT["version"]]
    assert f"keyferry=={__version__}" in EMULATOR_PROJECT["dependencies"]
    extra = PRODUCT_PROJECT["optional-dependencies"]["devvault"]
    assert [f"keyferry-devvault=={__version__}"] == extra
    assert (ROOT / "LICENSE").read_bytes() == (EMULATOR / "LICENSE").read_bytes()


def test_the_lock_files_contain_what_the_distributions_need() -> None:
    """What only the emulator needs is not in the lock file of the production image."""
    product, emulator = required(PRODUCT_PROJECT), required(EMULATOR_PROJECT) - {"keyferry"}
    assert product <= locked("runtime.lock")
    assert emulator <= locked("runtime.lock") | locked("devvault.lock")
    assert not (emulator - product) & locked("runtime.lock")


def test_the_production_image_gets_one_package() -> None:
    """The build copies no other source."""
    copied = re.findall(r"^COPY (src\S*)", (ROOT / "Containerfile").read_text(), re.MULTILINE)
    assert ["src/keyferry"] == copied


def test_the_installed_emulator_is_the_one_of_this_repository() -> None:
    """Its metadata is written at installation; `make test` repeats that when it changes."""
    for group, entries in EMULATOR_PROJECT["entry-points"].items():
        assert entries == {entry.name: entry.value for entry in entry_points(group=group)}


@pytest.fixture
def without_emulator(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if only keyferry were installed."""
    for module in ("keyferry.cli", "keyferry.providers.emulator"):
        monkeypatch.setattr(f"{module}.entry_points", lambda **_: entry_points(group="none"))


@pytest.mark.usefixtures("without_emulator")
@pytest.mark.parametrize("name", ["demo", "devvault"])
def test_a_command_of_an_emulator_that_is_not_installed_says_how_to_install_it(name: str) -> None:
    """The error names the command to run, and is not a traceback."""
    context = click.Context(keyferry.cli.keyferry)
    message = f"'keyferry {name}' is not installed. Run: pip install 'keyferry\\[devvault\\]'"
    with pytest.raises(click.UsageError, match=message):
        keyferry.cli.keyferry.get_command(context, name)
    assert name not in keyferry.cli.keyferry.list_commands(context)


@pytest.mark.usefixtures("without_emulator")
def test_the_flag_of_an_emulator_that_is_not_installed_says_how_to_install_it() -> None:
    """Before any connection."""
    with pytest.raises(PlatformError) as caught:
        load_emulator(Path("/data"))
    assert "--dev-vault needs the development vault, which is not installed" in str(caught.value)
    assert "pip install 'keyferry[devvault]'" in caught.value.remedy
