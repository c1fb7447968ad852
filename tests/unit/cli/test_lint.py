"""`keyferry lint` as a command: inputs, exit codes, streams."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from keyferry.cli import keyferry
from tests.fakes.cli import invoke_cli

GOOD = """\
apiVersion: secrets-store.csi.x-k8s.io/v1
kind: SecretProviderClass
metadata: {name: web}
spec:
  provider: vault
  parameters:
    roleName: web
    objects: |
      - objectName: a
        secretPath: secret/data/a
"""
WARNING = GOOD + "        secretkey: b\n"
BAD = GOOD.replace("objectName", "objectnam")


@pytest.mark.parametrize(
    ("text", "arguments", "code"),
    [
        (GOOD, (), 0),
        (WARNING, (), 0),
        (WARNING, ("--strict",), 2),
        (WARNING, ("--strict", "--disable", "unknown-field"), 0),
        (BAD, (), 2),
        (BAD, ("--disable", "class", "--disable", "unknown-field"), 0),
    ],
)
def test_exit_code(text: str, arguments: tuple[str, ...], code: int, tmp_path: Path) -> None:
    """2 for errors, and for warnings if they are strict."""
    (tmp_path / "a.yaml").write_text(text)
    assert code == invoke_cli(keyferry, "lint", str(tmp_path), *arguments).exit_code


def test_findings_are_data_and_counts_are_messages(tmp_path: Path) -> None:
    """So that a program can read the findings."""
    path = tmp_path / "a.yaml"
    path.write_text(WARNING)
    shown = invoke_cli(keyferry, "lint", str(path), "--format", "json")
    assert [str(path)] == [each["file"] for each in json.loads(shown.stdout)]
    assert "1 file, 1 object checked: 0 errors, 1 warning\n" == shown.stderr
    assert "" == invoke_cli(keyferry, "lint", "-q", str(path)).stderr


def test_folders_are_searched(tmp_path: Path) -> None:
    """Hidden files and other suffixes are skipped."""
    (tmp_path / "a").mkdir()
    for name in ("a/b.yml", ".hidden.yaml", "c.txt"):
        (tmp_path / name).write_text(BAD)
    shown = invoke_cli(keyferry, "lint", str(tmp_path))
    assert {f"{tmp_path}/a/b.yml"} == {
        line.split(":")[0] for line in shown.stdout.splitlines() if not line.startswith(" ")
    }


def test_standard_input_is_read() -> None:
    """As `-`."""
    shown = invoke_cli(keyferry, "lint", "-", stdin=WARNING)
    assert shown.stdout.startswith("-:11: warning: SecretProviderClass default/web: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nothing.yaml",), "error: nothing.yaml cannot be read: No such file or directory\nhint:"),
        (("--disable", "x", "a.yaml"), "error: there is no rule 'x'; the rules are: file, class,"),
        ((), "error: missing argument"),
    ],
)
def test_wrong_arguments_are_named(arguments: tuple[str, ...], message: str) -> None:
    """With the exit code of a wrong command line."""
    shown = invoke_cli(keyferry, "lint", *arguments)
    assert (2, "") == (shown.exit_code, shown.stdout)
    assert message in shown.stderr


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    """It is probably the wrong one."""
    shown = invoke_cli(keyferry, "lint", str(tmp_path))
    assert 2 == shown.exit_code
    assert "has no YAML file" in shown.stderr
