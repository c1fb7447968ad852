"""`keyferry lint`: checks manifests without a cluster and without a vault."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from keyferry.cli.commands import command, option
from keyferry.cli.console import console
from keyferry.cli.exit_codes import ExitCode
from keyferry.cli.output import counted
from keyferry.errors import RequestInvalidError
from keyferry.lint.finding import RULES, Severity
from keyferry.lint.reports import ReportFormat, write_report

if TYPE_CHECKING:
    from collections.abc import Iterator

_SUFFIXES = frozenset({".yaml", ".yml", ".json"})
_STANDARD_INPUT = "-"
_UPSTREAM_RULE = "upstream"


@command(
    examples=(
        "keyferry lint app.yaml",
        "keyferry lint manifests/ --strict",
        "helm template charts/app | keyferry lint -",
        "# before you return to the upstream driver",
        "keyferry lint manifests/ --target upstream",
    )
)
@click.argument("paths", metavar="[FILE|DIR|-]...", nargs=-1, required=True)
@option(
    "--target",
    type=click.Choice(["keyferry", _UPSTREAM_RULE]),
    default="keyferry",
    show_default=True,
    help="The driver that reads the manifests; upstream also reports what it reads differently.",
)
@option("-n", "--namespace", default="default", show_default=True, help="Of objects without one.")
@option("--disable", metavar="RULE", multiple=True, help="Do not check this rule; repeatable.")
@option("--strict", is_flag=True, help="Exit with 2 for warnings, too.")
@option(
    "--format",
    "report",
    type=click.Choice([str(choice) for choice in ReportFormat]),
    default=str(ReportFormat.TEXT),
    show_default=True,
    section="Output",
    help="Output format.",
)
def lint(
    paths: tuple[str, ...],
    target: str,
    namespace: str,
    disable: tuple[str, ...],
    strict: bool,
    report: str,
) -> None:
    """Check SecretProviderClasses, and the pods and SecretSyncs that use them.

    Folders are searched for YAML files; - is standard input. Objects of other kinds are skipped.
    The exit code is 2 if there is an error.
    """
    from keyferry.lint.linter import lint as run_lint

    unknown = [rule for rule in disable if rule not in RULES]
    if unknown:
        known = ", ".join(RULES)
        raise click.UsageError(f"there is no rule {unknown[0]!r}; the rules are: {known}")
    disabled = {*disable} | ({_UPSTREAM_RULE} if target != _UPSTREAM_RULE else set())
    files = [(name, _read(name)) for path in paths for name in _files(path)]
    findings, checked = run_lint(files, default_namespace=namespace, disabled=disabled)
    text = write_report(findings, ReportFormat(report))
    if text:
        click.echo(text)
    errors = sum(found.rule.severity is Severity.ERROR for found in findings)
    warnings = len(findings) - errors
    console().note(
        f"{counted(len(files), 'file')}, {counted(checked, 'object')} checked:"
        f" {counted(errors, 'error')}, {counted(warnings, 'warning')}"
    )
    if errors or (strict and warnings):
        sys.exit(ExitCode.INVALID)


def _files(path: str) -> Iterator[str]:
    """Yield the files of a path, sorted; hidden ones, which editors create, are skipped.

    Raises:
        RequestInvalidError: nothing is there.
    """
    if path == _STANDARD_INPUT:
        yield path
        return
    try:
        if not Path(path).is_dir():
            yield path
            return
        found = sorted(
            each
            for each in Path(path).rglob("*")
            if each.suffix in _SUFFIXES
            and not any(part.startswith(".") for part in each.relative_to(path).parts)
            and each.is_file()
        )
    except OSError as error:
        raise _unreadable(path, error) from error
    if not found:
        raise RequestInvalidError(f"{path} has no YAML file", "Name a folder with manifests.")
    yield from map(str, found)


def _read(name: str) -> bytes:
    if name == _STANDARD_INPUT:
        return sys.stdin.buffer.read()
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise _unreadable(name, error) from error


def _unreadable(path: str, error: OSError) -> RequestInvalidError:
    problem = f"{path} cannot be read: {error.strerror}"
    return RequestInvalidError(problem, "Name a file or a folder that you may read.")
