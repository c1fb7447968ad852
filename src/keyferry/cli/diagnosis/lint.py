"""`keyferry lint`: checks manifests, or the objects of a cluster, without a vault."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from keyferry.cli.cluster.connection import (
    ClusterOptions,
    context_option,
    kubeconfig_option,
    open_cluster,
)
from keyferry.cli.commands import command, option
from keyferry.cli.console import console
from keyferry.cli.exit_codes import ExitCode
from keyferry.cli.output import counted
from keyferry.errors import RequestInvalidError
from keyferry.lint.finding import RULES, Severity
from keyferry.lint.reports import ReportFormat, write_report

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from keyferry.lint.cluster.installation import Installation
    from keyferry.lint.finding import Finding
    from keyferry.lint.manifests import Manifests

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
        "keyferry lint --cluster -A",
    )
)
@click.argument("paths", metavar="[FILE|DIR|-]...", nargs=-1, type=click.Path())
@option("--cluster", is_flag=True, section="Cluster", help="Check the objects of a cluster.")
@option("-A", "--all-namespaces", is_flag=True, section="Cluster", help="In all namespaces.")
@context_option
@kubeconfig_option
@option(
    "--target",
    type=click.Choice(["keyferry", _UPSTREAM_RULE]),
    default="keyferry",
    show_default=True,
    help="The driver that reads the manifests; upstream also reports what it reads differently.",
)
@option(
    "-n",
    "--namespace",
    metavar="NAME",
    help="Of objects without one (default: default); with --cluster, the namespace to check.",
)
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
    cluster: bool,
    all_namespaces: bool,
    context: str | None,
    kubeconfig: str | None,
    target: str,
    namespace: str | None,
    disable: tuple[str, ...],
    strict: bool,
    report: str,
) -> None:
    """Check SecretProviderClasses, and the pods and SecretSyncs that use them.

    Folders are searched for YAML files; - is standard input. Objects of other kinds are skipped.
    With --cluster, the objects of a cluster are read, but no Secret. The exit code is 2 if there is
    an error.
    """
    if not (paths or cluster):
        raise click.UsageError("missing argument: name files or folders, or set --cluster")
    if paths and cluster:
        raise click.UsageError("--cluster and files exclude each other")
    if not cluster and (all_namespaces or context or kubeconfig):
        raise click.UsageError("--all-namespaces, --context and --kubeconfig need --cluster")
    if all_namespaces and namespace:
        raise click.UsageError("--namespace and --all-namespaces exclude each other")
    unknown = [rule for rule in disable if rule not in RULES]
    if unknown:
        known = ", ".join(RULES)
        raise click.UsageError(f"there is no rule {unknown[0]!r}; the rules are: {known}")
    disabled = {*disable} | ({_UPSTREAM_RULE} if target != _UPSTREAM_RULE else set())
    if cluster:
        options = ClusterOptions(Path(kubeconfig) if kubeconfig else None, context, namespace)
        findings, checked = _lint_cluster(options, disabled, all_namespaces=all_namespaces)
    else:
        findings, checked = _lint_files(paths, namespace or "default", disabled)
    text = write_report(findings, ReportFormat(report))
    if text:
        click.echo(text)
    errors = sum(found.rule.severity is Severity.ERROR for found in findings)
    warnings = len(findings) - errors
    console().note(f"{checked} checked: {counted(errors, 'error')}, {counted(warnings, 'warning')}")
    if errors or (strict and warnings):
        sys.exit(ExitCode.INVALID)


def _lint_files(
    paths: Iterable[str], namespace: str, disabled: Collection[str]
) -> tuple[list[Finding], str]:
    """Return the findings, and what was checked."""
    from keyferry.lint.linter import lint as run_lint

    files = [(name, _read(name)) for path in paths for name in _files(path)]
    findings, checked = run_lint(files, default_namespace=namespace, disabled=disabled)
    return findings, f"{counted(len(files), 'file')}, {counted(checked, 'object')}"


def _lint_cluster(
    options: ClusterOptions, disabled: Collection[str], *, all_namespaces: bool
) -> tuple[list[Finding], str]:
    """Return the findings, and what was checked."""
    import asyncio

    from keyferry.lint.cluster.installation_reader import read_installation
    from keyferry.lint.cluster.reader import ALL_NAMESPACES, read_cluster
    from keyferry.lint.linter import lint_cluster

    async def read() -> tuple[Manifests, Installation]:
        async with open_cluster(options) as cluster:
            namespace = ALL_NAMESPACES if all_namespaces else cluster.namespace
            warn = console().warn
            found = await read_cluster(cluster.api, namespace, warn=warn)
            return found, await read_installation(cluster.api, namespace, found, warn=warn)

    console().configure_logs()
    manifests, installation = asyncio.run(read())
    findings, checked = lint_cluster(manifests, installation, disabled=disabled)
    return findings, f"{counted(checked, 'object')} of the cluster"


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
