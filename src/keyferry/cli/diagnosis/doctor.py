"""`keyferry doctor`: finds the stage at which a mount fails."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from keyferry.cli.cluster.connection import ClusterOptions, cluster_options
from keyferry.cli.cluster.targets import TargetKind, parse_target
from keyferry.cli.commands import command, option
from keyferry.cli.console import console
from keyferry.cli.flags.paths import PathKind, visible_kind
from keyferry.cli.flags.providers import provider_options
from keyferry.cli.local.options import INPUT_OPTIONS, STDIN, pop_options, read_spc, timeout_option
from keyferry.cli.output import OutputFormat, output_option, print_document

if TYPE_CHECKING:
    from collections.abc import Sequence

    from keyferry.doctor.checks import Report, Status

_HERE, _NODE = "here", "node"


def _input_options(command_: Any) -> Any:
    timeout = timeout_option("30s", "Time limit of the diagnosis.")
    for add in reversed([*INPUT_OPTIONS, timeout, provider_options]):
        command_ = add(command_)
    return command_


@command(
    examples=(
        "keyferry doctor app.yaml --dev-vault ./vault",
        "kubectl keyferry doctor pod/web-0 -n shop",
        "kubectl keyferry doctor pod/web-0 -n shop --from node",
        "kubectl keyferry doctor secretproviderclass/app --service-account web",
        "kubectl keyferry doctor secretsync/app -o json",
    )
)
@click.argument("target", metavar="CLASS.yaml|TYPE/NAME", required=False)
@_input_options
@option(
    "--service-account",
    metavar="NAME",
    section="Cluster",
    help="Service account for secretproviderclass/NAME.  [default: default]",
)
@option(
    "--from",
    "origin",
    type=click.Choice([_HERE, _NODE]),
    default=_HERE,
    show_default=True,
    section="Cluster",
    help="Where requests come from: this machine, or Keyferry's pod on the node.",
)
@option(
    "--node",
    metavar="NAME",
    section="Cluster",
    help="Node for --from node; default: that of the pod, or any.",
)
@option(
    "--driver-namespace",
    metavar="NAME",
    section="Cluster",
    help="Namespace of Keyferry's pods; default: all are searched.",
)
@option("--probe", is_flag=True, hidden=True, help="Read a probe request from standard input.")
@cluster_options
@output_option
def doctor(target: str | None, probe: bool, output: OutputFormat, **values: Any) -> None:
    """Find the stage at which a mount fails, and say how to fix it.

    TYPE is pod, secretproviderclass or secretsync. Each stage is ok, failed or skipped: the
    SecretProviderClass, service account and token, DNS, proxy, TCP, TLS, token endpoint, vault,
    permissions, each object, rendering and Secrets. No value of a secret and no token is printed.
    """
    import asyncio

    console().configure_logs()
    if probe:
        from keyferry.cli.diagnosis.node_probe import probe_from_stdin

        probe_from_stdin()
        return
    if target is None:
        raise click.UsageError("missing argument: CLASS.yaml or TYPE/NAME")
    cluster: ClusterOptions = values.pop("options")
    is_file = _is_file(target)
    file = Path(target) if is_file else STDIN
    own = {
        name: values.pop(name) for name in ("service_account", "origin", "node", "driver_namespace")
    }
    if is_file:
        given = {**own, "namespace": cluster.namespace, "context": cluster.context}
        _check_no_cluster_options(given)
    options = pop_options(values, spc_file=file, spc_text=read_spc(file) if is_file else b"")
    if is_file:
        from keyferry.cli.diagnosis.files import diagnose_file

        reports = asyncio.run(diagnose_file(options))
    else:
        from keyferry.cli.diagnosis.objects import ClusterJob, diagnose_object

        job = ClusterJob(
            parse_target(target, TargetKind.POD, TargetKind.CLASS, TargetKind.SYNC),
            cluster,
            options,
            service_account=own["service_account"],
            from_node=own["origin"] == _NODE,
            node=own["node"],
            driver_namespace=own["driver_namespace"],
        )
        reports = asyncio.run(diagnose_object(job))
    _show(reports, output)


def _is_file(target: str) -> bool:
    is_path = visible_kind(Path(target)) is not PathKind.MISSING
    return target == str(STDIN) or "/" not in target or is_path


def _check_no_cluster_options(given: dict[str, Any]) -> None:
    for name, value in given.items():
        if value and value != _HERE:
            shown = {"origin": "from"}.get(name, name).replace("_", "-")
            raise click.UsageError(f"--{shown} needs TYPE/NAME instead of a file")


def _show(reports: Sequence[Report], output: OutputFormat) -> None:
    """Print the reports, and end with the code of the first failure."""
    from keyferry.doctor.reports import document, report_lines

    if output is OutputFormat.TABLE:
        for line in report_lines(reports, _styled):
            click.echo(line)
    else:
        print_document(document(reports), output)
    codes = [report.broken.exit_code for report in reports if report.broken]
    if codes:
        sys.exit(codes[0])


def _styled(status: Status, text: str) -> str:
    colors = {"ok": "green", "failed": "red", "skipped": "yellow"}
    return text if os.environ.get("NO_COLOR") else click.style(text, fg=colors[status], bold=True)
