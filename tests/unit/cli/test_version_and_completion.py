"""`keyferry version` and `keyferry completion`."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys

import pytest

from keyferry import __version__
from keyferry.cli import keyferry, plugin
from keyferry.cli.completion import kubectl_completions
from keyferry.cli.version import PROVIDER_PROTOCOL
from keyferry.providers.api import API_VERSION
from tests.fakes.cli import invoke_cli


def test_version_names_what_a_bug_report_needs() -> None:
    """For people, and as JSON for programs."""
    shown = json.loads(invoke_cli(keyferry, "version", "-o", "json").stdout)
    assert {"version", "commit", "python", "platform", "providerProtocol"} == shown.keys()
    assert (__version__, "v1alpha1") == (shown["version"], shown["providerProtocol"])
    assert shown["python"].endswith(f" {platform.python_version()}")
    assert f"provider protocol  {API_VERSION}\n" in invoke_cli(keyferry, "version").stdout
    assert PROVIDER_PROTOCOL == API_VERSION


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_the_script_of_the_shell(shell: str) -> None:
    """That of bash is read by bash; the other shells may be missing on this machine."""
    script = invoke_cli(keyferry, "completion", shell).stdout
    assert f"_KEYFERRY_COMPLETE={shell}_complete" in script
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=script, check=True, text=True)


def completed(*words: str) -> list[str]:
    """What the script for bash gets for these words; the last one is incomplete."""
    variables = {
        "_KEYFERRY_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(("keyferry", *words)),
        "COMP_CWORD": str(len(words)),
    }
    program = [sys.executable, "-m", "keyferry"]
    run = subprocess.run(
        program, env=os.environ | variables, capture_output=True, text=True, check=True
    )
    assert "" == run.stderr
    return [line.partition(",")[2] for line in run.stdout.splitlines()]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("un",), ["unmount"]),
        (("ver",), ["version"]),
        (("driver", "--enable-secret"), ["--enable-secret-rotation"]),
        (("driver", "-enable-secret"), ["-enable-secret-rotation"]),
        (("provider", ""), ["azure", "vault", "openbao"]),
        (("provider", "vault", "--vault-m"), ["--vault-mount"]),
        (("provider", "azure", "--vault-m"), []),
        (("run", "--env-f"), ["--env-file", "--env-from"]),
        (("devvault", "pol"), ["policy"]),
        (("devvault", "cert", "im"), ["import"]),
    ],
)
def test_words_are_completed(words: tuple[str, ...], expected: list[str]) -> None:
    """Commands, options, and the flags of the daemons with one or two dashes."""
    found = completed(*words)
    assert expected == [word for word in found if word != "--vault-max-concurrency"]


@pytest.mark.parametrize("words", [("mount", "app"), ("run", "app"), ("get", "app")])
def test_class_is_completed_as_a_file(words: tuple[str, ...]) -> None:
    assert ["app"] == completed(*words)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("st",), ["status\tShow which pod has which version of an object.", ":4"]),
        (("mount",), [":4"]),
        (("status", "-o", "w"), ["wide", ":4"]),
        (("lint", ""), [":0"]),
        (("status", "--kubeconfig", ""), [":0"]),
    ],
)
def test_completion_for_kubectl_ends_with_a_directive_of_cobra(
    words: tuple[str, ...], expected: list[str]
) -> None:
    """4: no files; 0: files, too. A command that the plugin does not have is not completed."""
    assert expected == kubectl_completions(plugin, words).splitlines()


def test_completion_for_kubectl_begins_without_a_word() -> None:
    """With an empty word, or without any."""
    lines = kubectl_completions(plugin, ()).splitlines()
    assert lines == kubectl_completions(plugin, ("",)).splitlines()
    commands = [each.split("\t")[0] for each in lines[:-1]]
    assert ["lint", "doctor", "refresh", "status", "ui", "version"] == commands
