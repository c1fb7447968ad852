"""`keyferry status`: which pod and which SecretSync has which version of an object."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from keyferry.cli.cluster.connection import ClusterOptions, cluster_options
from keyferry.cli.cluster.tables import Table, object_table, secret_table, sync_table
from keyferry.cli.cluster.targets import Target, TargetKind, parse_target
from keyferry.cli.commands import command, option
from keyferry.cli.console import console
from keyferry.cli.output import OutputFormat, clear_screen, is_terminal, print_document

if TYPE_CHECKING:
    from keyferry.cli.cluster.reader import ClusterReader
    from keyferry.kubernetes.syncs.objects import SecretSync

_SECONDS = 2.0
"""Between two reads of --watch."""
_WIDE = "wide"


@command(
    examples=(
        "keyferry status",
        "keyferry status -A -o wide",
        "keyferry status web-6d4cf56db6-abcde",
        "keyferry status secretsync/web",
        "# who would miss a Secret",
        "keyferry status --by secret",
        "keyferry status --by secret secretsync/web",
    )
)
@click.argument("target", metavar="[POD|TYPE/NAME]", required=False)
@cluster_options
@option("-A", "--all-namespaces", is_flag=True, section="Cluster", help="In all namespaces.")
@option(
    "--by",
    type=click.Choice(["pod", "secret"]),
    default="pod",
    show_default=True,
    section="Output",
    help="List objects of pods and SecretSyncs, or users of synced Secrets.",
)
@option("--watch", is_flag=True, section="Output", help="Keep the table up to date until Ctrl-C.")
@option(
    "-o",
    "--output",
    type=click.Choice([*map(str, OutputFormat), _WIDE]),
    default=str(OutputFormat.TABLE),
    show_default=True,
    section="Output",
    help="Output format.",
)
def status(
    options: ClusterOptions,
    target: str | None,
    all_namespaces: bool,
    by: str,
    watch: bool,
    output: str,
) -> None:
    """Show which pod and which SecretSync has which version of an object.

    TYPE is pod, secretsync, secretproviderclass or, with --by secret, secret. The environment of a
    container is `old` if its Secret changed after it started. Only names and versions are read;
    nothing shows a value.
    """
    import asyncio

    if watch and output not in (OutputFormat.TABLE, _WIDE):
        raise click.UsageError(f"-o {output} and --watch exclude each other")
    if all_namespaces and options.namespace:
        raise click.UsageError("--namespace and --all-namespaces exclude each other")
    by_secret = by == "secret"
    named = _parse_target(target, by_secret=by_secret) if target else None
    console().configure_logs()
    view = _View(named, by_secret, all_namespaces, output)
    asyncio.run(view.show(options, watch=watch))


def _parse_target(text: str, *, by_secret: bool) -> Target:
    if by_secret:
        return parse_target(text, TargetKind.SECRET, TargetKind.SYNC, TargetKind.CLASS)
    return parse_target(text, TargetKind.POD, TargetKind.SYNC, TargetKind.CLASS)


class _View:
    """What the command shows.

    Args:
        target: only this; None for all.
        by_secret: show users of Secrets instead of objects of pods and SecretSyncs.
        all_namespaces: whether to read all namespaces.
        output: an `OutputFormat` or `wide`.
    """

    def __init__(
        self, target: Target | None, by_secret: bool, all_namespaces: bool, output: str
    ) -> None:
        self._target = target
        self._by_secret = by_secret
        self._all_namespaces = all_namespaces
        self._output = output
        self._knows_syncs = True

    async def show(self, options: ClusterOptions, *, watch: bool) -> None:
        """Print once, or with `watch` again and again.

        A terminal shows the current state, with current ages, as `watch` does. Other output gets
        the tables again when they change, so that a log has each state once.
        """
        import asyncio

        from keyferry.cli.cluster.connection import open_cluster
        from keyferry.cli.cluster.reader import ClusterReader

        async with open_cluster(options) as cluster:
            reader = ClusterReader(cluster, all_namespaces=self._all_namespaces)
            shown: list[Table] | None = None
            while True:
                found = await self._read(reader)
                if watch and is_terminal():
                    clear_screen()
                    self._print(found, again=False)
                elif found != shown:
                    self._print(found, again=shown is not None)
                    shown = found
                if not watch:
                    return
                await asyncio.sleep(_SECONDS)

    async def _read(self, reader: ClusterReader) -> list[Table]:
        if self._by_secret:
            return [await self._secrets(reader)]
        syncs = None if self._names(TargetKind.POD) else await reader.syncs()
        self._knows_syncs = syncs is not None
        tables = [] if self._names(TargetKind.SYNC) else [await self._objects(reader, syncs)]
        return [*tables, self._syncs(syncs)] if syncs is not None else tables

    async def _objects(self, reader: ClusterReader, syncs: list[SecretSync] | None) -> Table:
        from keyferry.inventory.objects import ClusterObjects, object_rows

        objects = ClusterObjects(
            await reader.pod_statuses(syncs),
            await reader.classes(),
            await reader.pods(),
            await reader.driver_secrets(),
        )
        return object_table(
            row
            for row in object_rows(objects)
            if self._shows(TargetKind.POD, row.pod) or self._shows(TargetKind.CLASS, row.class_name)
        )

    def _syncs(self, syncs: list[SecretSync]) -> Table:
        from keyferry.inventory.syncs import sync_rows

        return sync_table(
            row
            for row in sync_rows(syncs)
            if self._shows(TargetKind.SYNC, row.sync)
            or self._shows(TargetKind.CLASS, row.class_name)
        )

    async def _secrets(self, reader: ClusterReader) -> Table:
        from keyferry.inventory.secrets import managed_secrets, secret_rows
        from keyferry.inventory.users import secret_users

        found = managed_secrets(await reader.all_secrets())
        pods = await reader.pods()
        users = secret_users(pods, await reader.service_accounts(), await reader.ingresses())
        secrets = [
            each
            for each in found
            if self._shows(TargetKind.SECRET, each.name)
            or self._shows(_DEFINING[each.kind], each.source)
        ]
        return secret_table(secret_rows(secrets, users, pods))

    def _names(self, kind: TargetKind) -> bool:
        """Return whether the command names an object of this kind."""
        return self._target is not None and self._target.kind is kind

    def _shows(self, kind: TargetKind, name: str) -> bool:
        """Return whether an object is to be shown."""
        return self._target is None or self._target == Target(kind, name)

    def _print(self, tables: list[Table], *, again: bool) -> None:
        if self._output not in (OutputFormat.TABLE, _WIDE):
            rows = [row for table in tables for row in table.rows]
            print_document(rows, OutputFormat(self._output))
            return
        if again:
            click.echo()
        wide = self._output == _WIDE
        texts = [
            table.text(wide=wide, namespaces=self._all_namespaces) for table in tables if table.rows
        ]
        if texts:
            click.echo("\n\n".join(texts))
        else:
            click.echo(self._empty(), err=True)

    def _empty(self) -> str:
        if self._by_secret:
            return self._no_secret()
        if self._target is None:
            pods = "no pod has a volume of the driver"
            return f"{pods}, and there are no SecretSyncs" if self._knows_syncs else pods
        name = self._target.name
        match self._target.kind:
            case TargetKind.POD:
                return f"pod {name} has no volume of the driver, or does not exist"
            case TargetKind.SYNC if self._knows_syncs:
                return f"there is no SecretSync {name}"
            case TargetKind.SYNC:
                return "the cluster has no SecretSyncs: their CRD is not installed"
            case _:
                users = "no pod and no SecretSync uses" if self._knows_syncs else "no pod uses"
                return f"{users} SecretProviderClass {name}, or it does not exist"

    def _no_secret(self) -> str:
        if self._target is None:
            return "no synced Secrets"
        if self._names(TargetKind.SECRET):
            return f"there is no synced Secret {self._target.name}"
        return f"no synced Secret is defined by {self._target}"


_DEFINING = {"SecretSync": TargetKind.SYNC, "SecretProviderClass": TargetKind.CLASS}
