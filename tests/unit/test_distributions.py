"""The two distributions of this repository: what their wheels contain, need and offer."""

from __future__ import annotations

import re
import tomllib
from email import message_from_bytes
from email.message import Message
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import click
import pytest
from hatchling.builders.wheel import WheelBuilder

import keyferry.cli
from keyferry import __version__
from keyferry.cli.build import COMMIT_FILE
from keyferry.errors import PlatformError
from keyferry.providers.emulator import load_emulator

ROOT = Path(__file__).parents[2]
EMULATOR = ROOT / "src" / "keyferry_devvault"
PRODUCT = tomllib.loads((ROOT / "pyproject.toml").read_text())
REPOSITORY: str = PRODUCT["tool"]["hatch"]["metadata"]["hooks"]["custom"]["repository"]
PRODUCT_PROJECT = PRODUCT["project"]
EMULATOR_PROJECT = tomllib.loads((EMULATOR / "pyproject.toml").read_text())["project"]


def wheel_files(project: Path, folder: Path) -> set[str]:
    """The files in the wheel of a project, without its metadata."""
    (wheel,) = WheelBuilder(str(project)).build(directory=str(folder))
    with ZipFile(wheel) as archive:
        generated = "keyferry/commit.txt"
        return {
            name for name in archive.namelist() if ".dist-info/" not in name and name != generated
        }


@pytest.fixture(scope="module")
def metadata(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Message]:
    """The metadata of both wheels, by the name of the distribution."""
    folder, found = tmp_path_factory.mktemp("wheels"), {}
    for project in (ROOT, EMULATOR):
        (wheel,) = WheelBuilder(str(project)).build(directory=str(folder))
        with ZipFile(wheel) as archive:
            (name,) = (each for each in archive.namelist() if each.endswith("/METADATA"))
            message = message_from_bytes(archive.read(name))
        found[message["Name"]] = message
    return found


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


def test_the_production_wheel_names_its_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`keyferry version` prints it."""
    monkeypatch.setenv("KEYFERRY_COMMIT", "c0ffee")
    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path))
    with ZipFile(wheel) as archive:
        assert b"c0ffee\n" == archive.read("keyferry/commit.txt")
    assert "keyferry/commit.txt" == COMMIT_FILE.relative_to(ROOT / "src").as_posix()


def test_the_wheel_of_the_emulator_contains_all_of_it(tmp_path: Path) -> None:
    """Its pyproject.toml lies beside the modules, and is not one of them."""
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


def test_the_build_of_the_production_image_gets_what_the_build_of_the_wheel_reads() -> None:
    """Also past .dockerignore."""
    copied = set((ROOT / "Containerfile").read_text().split())
    kept = set((ROOT / ".dockerignore").read_text().splitlines())
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE"):
        assert name in copied
        assert f"!{name}" in kept


def test_the_installed_emulator_is_the_one_of_this_repository() -> None:
    """Its metadata is written at installation; `make test` repeats that when it changes."""
    for group, entries in EMULATOR_PROJECT["entry-points"].items():
        assert entries == {entry.name: entry.value for entry in entry_points(group=group)}


@pytest.mark.parametrize("name", ["keyferry", "keyferry-devvault"])
def test_the_metadata_is_complete(metadata: dict[str, Message], name: str) -> None:
    """What a package index shows beside the description."""
    message = metadata[name]
    assert "The Keyferry authors" == message["Author"]
    assert "Apache-2.0" == message["License-Expression"]
    assert ">=3.11" == message["Requires-Python"]
    assert {"azure-key-vault", "kubernetes"} <= set(message["Keywords"].split(","))
    classifiers = message.get_all("Classifier") or []
    versions = {found for each in classifiers for found in re.findall(r":: (3\.\d+)$", each)}
    assert {"3.11", "3.12", "3.13", "3.14"} == versions
    assert "text/markdown" == message["Description-Content-Type"]


@pytest.mark.parametrize("name", ["keyferry", "keyferry-devvault"])
def test_every_link_of_a_distribution_works_anywhere(
    metadata: dict[str, Message], name: str
) -> None:
    """They are absolute, and those to this repository name the tag of the version and a file."""
    message = metadata[name]
    addresses = [each.partition(", ")[2] for each in message.get_all("Project-URL") or []]
    assert 5 == len(addresses)
    description = message.get_payload()
    assert isinstance(description, str)
    links = re.findall(r"\]\(([^)]*)\)", description)
    links += re.findall(r'(?:src|srcset)="([^"]*)"', description)
    assert [] == [link for link in links if not re.match("https?://|#", link)]
    inside = [link for link in [*addresses, *links] if f"{REPOSITORY}/" in f"{link}/"]
    assert addresses == inside[:5]
    for link in inside:
        path = link.removeprefix(REPOSITORY).partition("#")[0]
        if path not in {"", "/issues"}:
            file = re.sub(rf"^/(blob|raw)/v{re.escape(__version__)}/", "", path)
            assert (ROOT / file).exists(), link


def test_the_placeholder_addresses_have_one_place_each() -> None:
    """Repository: pyproject.toml. Registry: values.yaml of the chart. All copies equal them."""
    values = (ROOT / "charts" / "keyferry" / "values.yaml").read_text()
    (image,) = re.findall(r"^    repository: (\S+)$", values, re.MULTILINE)
    registry = image.rpartition("/")[0]
    pages = ("*.md", "mkdocs.yml", "docs/**/*.md", "deploy/*.yaml", "charts/**/*", "src/**/*.toml")
    for path in (path for pattern in pages for path in ROOT.glob(pattern)):
        if not path.is_file() or path.parent.name == "__pycache__":
            continue
        text = path.read_text()
        assert set(re.findall(r"https://github\.com/[\w-]+/keyferry\b", text)) <= {REPOSITORY}, path
        assert set(re.findall(r"--repo (\S+)", text)) <= {REPOSITORY.split("/", 3)[3]}, path
        for name in ("keyferry", "charts"):
            found = set(re.findall(rf"ghcr\.io/[\w-]+/{name}\b", text))
            assert found <= {f"{registry}/{name}"}, path


@pytest.fixture
def without_emulator(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if only keyferry were installed."""
    monkeypatch.setattr("keyferry.cli._entry_points", dict)
    monkeypatch.setattr("importlib.metadata.entry_points", lambda **_: entry_points(group="none"))


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
