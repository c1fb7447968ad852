"""The command line as a whole: help, mistyped words, common options, and the last resort."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click
import pytest
from click.testing import Result

from keyferry.cli import keyferry, plugin
from keyferry.cli.commands import Group, command
from keyferry.cli.console import console
from keyferry.cli.exit_codes import ExitCode
from keyferry.cli.failures import InterruptedBySignalError
from keyferry.errors import ObjectNotFoundError
from tests.fakes.cli import invoke_cli

CANARY = "canary-9f2b61c0"


def commands(
    group: click.Group = keyferry, names: tuple[str, ...] = ()
) -> Iterator[tuple[str, ...]]:
    """The words of every command, groups included."""
    yield names
    context = click.Context(group)
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        if isinstance(found, click.Group):
            yield from commands(found, (*names, name))
        else:
            yield (*names, name)


def test_the_plugin_of_kubectl_has_the_commands_of_a_cluster() -> None:
    """And no command of a daemon."""
    shown = invoke_cli(plugin, "--help").stdout
    assert "  status " in shown
    assert "  driver " not in shown
    refused = invoke_cli(plugin, "driver")
    assert 2 == refused.exit_code
    assert "no such command 'driver'" in refused.stderr


COMMANDS = [*commands(), *(("provider", name) for name in ("azure", "vault", "openbao"))]


@pytest.mark.parametrize("names", COMMANDS, ids=" ".join)
def test_help_has_an_example_of_the_command(names: tuple[str, ...]) -> None:
    """The example is the command itself, and no summary of a command is cut."""
    result = invoke_cli(keyferry, *names, "--help")
    assert (0, "") == (result.exit_code, result.stderr)
    _, _, examples = result.stdout.partition("Examples:\n")
    assert f"  {' '.join(('keyferry', *names))}" in examples
    assert "..." not in re.sub(r"\]\.\.\.|keyferry get \.\.\.", "", result.stdout)


def test_options_of_mount_are_in_sections() -> None:
    """In the order in which a reader needs them; arguments of the environment come last."""
    shown = invoke_cli(keyferry, "mount", "--help").stdout
    titles = re.findall(r"^([A-Z][^:;\n]*)(?:;[^\n]*)?:$", shown, re.MULTILINE)
    assert [
        *("Input", "Output", "Refresh", "Credentials", "Vault requests"),
        *("Azure Key Vault", "Vault", "Common options", "Examples"),
    ] == [title for title in titles if title != "Options"]


@pytest.mark.parametrize(
    ("words", "error", "hint"),
    [
        (["mont"], "no such command 'mont'. Did you mean 'mount' or 'unmount'?", "keyferry --help"),
        (["devvault", "lst"], "no such command 'lst'. Did you mean 'list'", "devvault --help"),
        (["xyz"], "no such command 'xyz'. Choose from: mount, unmount, run, get, ", "--help"),
        (["mount", "--secret-dir=x"], "no such option '--secret-dir'. Did you mean '--s", "mount"),
        (["get", "a.yaml"], "missing argument 'OBJECT'", "'keyferry get --help'"),
        (["completion", "tcsh"], "'tcsh' is not one of 'bash', 'zsh', 'fish'", "completion"),
        (["driver", "--nope"], "flag provided but not defined: -nope", "keyferry driver --help"),
        (["provider", "azur"], "there is no built-in provider 'azur'", "azure, vault, openbao"),
        (["provider", "azure", "-x"], "flag provided but not defined: -x", "provider azure --help"),
    ],
)
def test_mistyped_word_is_an_error_with_a_hint(words: list[str], error: str, hint: str) -> None:
    """On standard error, with exit code 2."""
    result = invoke_cli(keyferry, *words)
    assert (2, "") == (result.exit_code, result.stdout)
    first, second = result.stderr.splitlines()
    assert first.startswith("error: ")
    assert error in first
    assert second.startswith("hint: ")
    assert hint in second


@pytest.mark.parametrize("words", [[], ["devvault"], ["provider"]])
def test_command_without_arguments_prints_its_help(words: list[str]) -> None:
    """With the exit code of a command line that is not complete."""
    result = invoke_cli(keyferry, *words)
    assert (2, "") == (result.exit_code, result.stdout)
    assert "Usage: keyferry" in result.stderr


# --- one command that fails -----------------------------------------------------------------------


def failing(error: BaseException, *words: str) -> Result:
    """The result of `keyferry fail`, which raises `error`."""

    @click.group(cls=Group)
    def root() -> None:
        """Do nothing."""

    @command("fail")
    def fail() -> None:
        """Fail."""
        console().report("report")
        console().note("note")
        console().warn("warning")
        raise error

    root.add_command(fail)
    return invoke_cli(root, *words)


def test_unexpected_error_is_one_line_without_its_text() -> None:
    """The text could quote a value. The hint says where to report, and how to get the traceback."""
    result = failing(ValueError(CANARY), "fail", "--quiet")
    assert (1, "") == (result.exit_code, result.stdout)
    first, second = result.stderr.splitlines()
    assert re.fullmatch(r"error: unexpected ValueError( in \S+ line \d+)? of Keyferry \S+", first)
    assert second.startswith("hint: This is a bug in Keyferry: report it ")
    assert second.endswith("For a traceback, run: root --debug fail --quiet")
    assert CANARY not in result.stderr


def test_unexpected_error_of_the_system_names_the_file() -> None:
    result = failing(PermissionError(13, "Permission denied", "/etc/shadow"), "-q", "fail")
    assert "unexpected PermissionError" in result.stderr
    assert ": /etc/shadow: Permission denied\n" in result.stderr


def test_full_disk_is_no_bug() -> None:
    """The remedy is on this machine."""
    result = failing(OSError(28, "No space left on device"), "-q", "fail")
    assert result.stderr == (
        "error: the output cannot be written: No space left on device\n"
        "hint: Free space on its file system, or write to another one.\n"
    )


@pytest.mark.parametrize("words", [["--debug", "fail"], ["fail", "--debug"]])
def test_debug_adds_the_traceback(words: list[str]) -> None:
    """Before or after the command."""
    result = failing(ValueError("x"), *words)
    assert 1 == result.exit_code
    assert "Traceback (most recent call last):" in result.stderr
    assert "error: unexpected ValueError" in result.stderr


def test_debug_is_also_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a command that a script starts."""
    monkeypatch.setenv("KEYFERRY_DEBUG", "1")
    assert "Traceback" in failing(ValueError("x"), "fail").stderr


def test_expected_error_has_no_traceback_and_no_prefix_of_upstream() -> None:
    error = ObjectNotFoundError("secret a does not exist", "Create it.")
    error.upstream_prefix = "failed to mount objects, error: "
    result = failing(error, "fail", "-q")
    assert 3 == result.exit_code
    assert "error: secret a does not exist\nhint: Create it.\n" == result.stderr


@pytest.mark.parametrize(("words", "shown"), [(["fail"], True), (["fail", "-q"], False)])
def test_quiet_prints_only_errors(words: list[str], shown: bool) -> None:
    result = failing(ObjectNotFoundError("x"), *words)
    assert ("report\n" if shown else "") == result.stdout
    assert ("note\nwarning: warning\n" if shown else "") + "error: x\n" == result.stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (KeyboardInterrupt(), 130),
        (InterruptedBySignalError(15), 143),
        (click.exceptions.Exit(7), 7),
        (SystemExit(9), 9),
    ],
)
def test_interruption_is_silent(error: BaseException, code: int) -> None:
    """128 and the number of the signal."""
    result = failing(error, "fail", "-q")
    assert (code, "") == (result.exit_code, result.stderr.strip())


def test_colors_are_only_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    """And never with NO_COLOR."""
    assert "\x1b" not in failing(ObjectNotFoundError("x"), "fail").stderr
    assert ExitCode.REFUSED == failing(ObjectNotFoundError("x"), "fail").exit_code
