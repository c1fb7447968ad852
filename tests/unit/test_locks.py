"""Lock files pin everything by hash, and the image contains no build tools."""

from __future__ import annotations

import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
REQUIREMENTS = ROOT / "requirements"
IMAGE = "image"  # of Debian packages: tests/unit/test_image.py
LOCKS = sorted(path.name for path in REQUIREMENTS.glob("*.lock") if path.stem != IMAGE)
BUILD_TOOLS = {
    "build", "editables", "hatchling", "packaging", "pathspec", "pip", "pip-tools", "pluggy",
    "setuptools", "tomlkit", "trove-classifiers", "uv", "wheel",
}  # fmt: skip


def canonicalize_name(name: str) -> str:
    """Distributions have the same name if these are equal."""
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(name: str) -> set[str]:
    """The distributions that a lock file pins."""
    text = (REQUIREMENTS / name).read_text()
    return {canonicalize_name(found) for found in re.findall(r"^([\w.-]+)==", text, re.MULTILINE)}


def reasons(name: str) -> set[str]:
    """Why a lock file has its entries: the names after `via`, without those of its own entries."""
    found = re.findall(r"^    #(?: via)? +(\S.*)$", (REQUIREMENTS / name).read_text(), re.MULTILINE)
    return {each for each in found if canonicalize_name(each) not in locked(name) and each != "via"}


def instructions(containerfile: str) -> list[str]:
    """The instructions, with continued lines joined."""
    text = re.sub(r"^#.*\n", "", containerfile, flags=re.MULTILINE).replace("\\\n", " ")
    return [line for line in text.splitlines() if line.strip()]


@pytest.mark.parametrize("name", LOCKS)
def test_every_locked_distribution_has_a_version_and_hashes(name: str) -> None:
    """Each entry starts a line; its hashes follow."""
    text = (REQUIREMENTS / name).read_text()
    entries = re.split(r"^(?=[^\s#])", text, flags=re.MULTILINE)[1:]
    assert entries
    for entry in entries:
        assert re.match(r"[\w.-]+(\[[\w,-]+\])?==[\w.!+]+ \\\n", entry), entry.splitlines()[0]
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry.splitlines()[0]


@pytest.mark.parametrize("name", LOCKS)
def test_lock_files_contain_no_index_address(name: str) -> None:
    """Nor a URL of a file: the index is a setting of the machine."""
    text = (REQUIREMENTS / name).read_text()
    assert "://" not in text
    assert not re.search(
        r"^\s*(-i|-f|--index-url|--extra-index-url|--find-links|--trusted-host)", text
    )


def test_every_requirements_file_is_locked_by_make_lock() -> None:
    """A lock file that `make lock` does not write goes stale."""
    script = (ROOT / "scripts" / "lock.sh").read_text()
    for name in LOCKS:
        assert f"--output-file requirements/{name}" in script
    asked = {path.stem for path in REQUIREMENTS.glob("*.in")} - {IMAGE}
    assert not {name for name in asked if f"requirements/{name}.in" not in script}


def test_the_runtime_lock_contains_only_what_keyferry_imports() -> None:
    """The dependencies of pyproject.toml and theirs, and so no build tool."""
    assert {"keyferry (pyproject.toml)"} == reasons("runtime.lock")
    assert not locked("runtime.lock") & BUILD_TOOLS


def test_the_build_lock_contains_the_build_backend_of_pyproject() -> None:
    """And what editable installs need in addition."""
    system = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]
    asked = (REQUIREMENTS / "build.in").read_text()
    listed = set(re.findall(r"^([a-z][\w-]*)", asked, re.MULTILINE))
    assert {*system["requires"], "editables"} == listed
    assert {"-r requirements/build.in", "-c requirements/runtime.lock"} >= reasons("build.lock")


def test_the_base_image_of_the_containerfile_is_pinned_by_digest() -> None:
    """The same in each stage."""
    lines = instructions((ROOT / "Containerfile").read_text())
    images = {line.split()[1] for line in lines if line.startswith("FROM ")}
    (image,) = images
    assert re.search(r"@sha256:[0-9a-f]{64}$", image)


def test_the_containerfile_installs_only_locked_packages() -> None:
    """Each command of pip takes hashes from a lock file, or no package from an index at all."""
    lines = instructions((ROOT / "Containerfile").read_text())
    commands = [
        command
        for line in lines
        for command in re.split(r"&&|;", line)
        if re.search(r"\bpip (install|wheel|download)\b", command)
    ]
    assert 4 == len(commands)
    for command in commands:
        assert "--require-hashes" in command or "--no-index" in command, command
        assert "--no-deps" in command, command


def test_the_build_context_is_what_the_containerfile_copies() -> None:
    """Nothing else of the machine can get into the image."""
    lines = instructions((ROOT / "Containerfile").read_text())
    copies = [line.split()[1:-1] for line in lines if line.startswith("COPY ")]
    copied = {each for sources in copies for each in sources if "--from=build" not in sources}
    ignored, *allowed = (ROOT / ".dockerignore").read_text().splitlines()[1:]
    assert "*" == ignored
    patterns = [each.removeprefix("!") for each in allowed if each.startswith("!")]
    unused = {each for each in patterns if not any(fnmatch(source, each) for source in copied)}
    assert not unused
    assert not {each for each in copied if not any(fnmatch(each, one) for one in patterns)}


def test_the_containerfile_keeps_build_tools_out_of_the_image() -> None:
    """The build backend has an environment of its own, of which nothing is copied."""
    lines = instructions((ROOT / "Containerfile").read_text())
    last = max(number for number, line in enumerate(lines) if line.startswith("FROM "))
    final = [line for line in lines[last:] if line.startswith("COPY ")]
    assert ["COPY --from=build /build/packages /usr/local/lib/python3.11/site-packages"] == final
    (installed,) = [line for line in lines if "runtime.lock" in line and line.startswith("RUN ")]
    assert "--target packages" in installed
    assert "build.lock" not in installed
