"""`keyferry status`: which workload has which version of an object."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from keyferry.cli.cluster.connection import ClusterOptions, cluster_options
from keyferry.cli.commands import command, option
from keyferry.cli.console import console
from keyferry.cli.output import OutputFormat, print_document, print_list

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from keyferry.cli.cluster.connection import Cluster
    from keyferry.inventory.objects import ClusterObjects, ObjectRow
    from keyferry.inventory.users import SecretUser
    from keyferry.kubernetes.api.resources import Resource
    from keyferry.kubernetes.object_codec import Manifest

_SECONDS = 2.0
"""Between two reads of --watch."""
_WIDE = "wide"


@command(
    examples=(
        "keyferry status",
        "keyferry status -A -o wide",
        "keyferry status web-6d4cf56db6-abcde",
        "# who would miss a Secret",
        "keyferry status --by secret",
    )
)
@click.argument("pod", required=False)
@cluster_options
@option("-A", "--all-namespaces", is_flag=True, section="Cluster", help="In all namespaces.")
@option(
    "--by",
    type=click.Choice(["pod", "secret"]),
    default="pod",
    show_default=True,
    section="Output",
    help="List the objects of pods, or the users of synced Secrets.",
)
@option("--watch", is_flag=True, section="Output", help="Print the table again when it changes.")
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
    pod: str | None,
    all_namespaces: bool,
    by: str,
    watch: bool,
    output: str,
) -> None:
    """Show which pod has which version of an object, in its files and its environment.

    The environment of a container is `old` if its Secret changed after it started. Only names and
    versions are read; nothing shows a value.
    """
    import asyncio

    if watch and output not in (OutputFormat.TABLE, _WIDE):
        raise click.UsageError(f"-o {output} and --watch exclude each other")
    if pod and by == "secret":
        raise click.UsageError("--by secret takes no POD")
    if all_namespaces and options.namespace:
        raise click.UsageError("--namespace and --all-namespaces exclude each other")
    console().configure_logs()
    view = _View(pod or "", by == "secret", all_namespaces, output)
    asyncio.run(view.show(options, watch=watch))


class _View:
    """What the command shows.

    Args:
        pod: only this one; "" for all.
        by_secret: show users of Secrets instead of objects of pods.
        all_namespaces: whether to read all namespaces.
        output: an `OutputFormat` or `wide`.
    """

    def __init__(self, pod: str, by_secret: bool, all_namespaces: bool, output: str) -> None:
        self._pod = pod
        self._by_secret = by_secret
        self._all_namespaces = all_namespaces
        self._output = output

    async def show(self, options: ClusterOptions, *, watch: bool) -> None:
        """Print once, or with `watch` whenever something changes."""
        import asyncio

        from keyferry.cli.cluster.connection import open_cluster

        async with open_cluster(options) as cluster:
            shown: object = None
            while True:
                found = await self._read(cluster)
                if found != shown:
                    self._print(found, again=shown is not None)
                    shown = found
                if not watch:
                    return
                await asyncio.sleep(_SECONDS)

    async def _read(self, cluster: Cluster) -> list[dict[str, object]]:
        from keyferry.inventory.objects import object_rows
        from keyferry.inventory.users import secret_users

        reader = _Reader(cluster, all_namespaces=self._all_namespaces)
        if self._by_secret:
            managed = await reader.secrets()
            names = {_key(secret) for secret in managed or ()}
            users = secret_users(
                await reader.pods(), await reader.service_accounts(), await reader.ingresses()
            )
            used = [user for user in users if (user.namespace, user.secret) in names]
            unused = names - {(user.namespace, user.secret) for user in used}
            return [_user(user) for user in used] + [
                {"namespace": namespace, "secret": name, "kind": "", "name": "", "usage": "unused"}
                for namespace, name in sorted(unused)
            ]
        rows = object_rows(await reader.objects())
        return [_object(row) for row in rows if self._pod in ("", row.pod)]

    def _print(self, rows: list[dict[str, object]], *, again: bool) -> None:
        if self._output not in (OutputFormat.TABLE, _WIDE):
            print_document(rows, OutputFormat(self._output))
            return
        if again:
            click.echo()
        columns = _SECRET_COLUMNS if self._by_secret else _OBJECT_COLUMNS
        if not self._all_namespaces:
            columns = {title: key for title, key in columns.items() if key != "namespace"}
        if self._output != _WIDE:
            columns = {title: key for title, key in columns.items() if key != "node"}
        cells = [{**row, **_ages(row)} for row in rows]
        print_list(cells, columns, OutputFormat.TABLE, empty=self._empty())

    def _empty(self) -> str:
        if self._pod:
            return f"pod {self._pod} has no volume of the driver, or does not exist"
        return "no synced Secrets" if self._by_secret else "no pod has a volume of the driver"


_OBJECT_COLUMNS = {
    "NAMESPACE": "namespace",
    "POD": "pod",
    "CLASS": "secretProviderClass",
    "OBJECT": "object",
    "VERSION": "version",
    "ENVIRONMENT": "environment",
    "REFRESHED": "refreshed",
    "NODE": "node",
    "PROBLEM": "problem",
}
_SECRET_COLUMNS = {
    "NAMESPACE": "namespace",
    "SECRET": "secret",
    "USAGE": "usage",
    "KIND": "kind",
    "NAME": "name",
}


class _Reader:
    """Reads objects of one namespace or all. What may not be read is reported once and missing."""

    def __init__(self, cluster: Cluster, *, all_namespaces: bool) -> None:
        self._api = cluster.api
        self._namespace = "*" if all_namespaces else cluster.namespace

    async def objects(self) -> ClusterObjects:
        """Return what the rows of objects are made from.

        Raises:
            StoreError: the pod statuses cannot be read.
        """
        from keyferry.inventory.objects import ClusterObjects
        from keyferry.kubernetes.api.resources import PodStatusResource, SecretProviderClassResource

        return ClusterObjects(
            await self._list(PodStatusResource),
            await self._list(SecretProviderClassResource, required=False),
            await self.pods(),
            await self.secrets(),
        )

    async def pods(self) -> tuple[Manifest, ...]:
        """Return the pods."""
        from keyferry.kubernetes.api.resources import PodResource

        return await self._list(PodResource, required=False)

    async def secrets(self) -> tuple[Manifest, ...] | None:
        """Return the metadata of the synced Secrets."""
        from keyferry.kubernetes.api.resources import SecretResource
        from keyferry.kubernetes.markings import MANAGED_LABEL

        return await self._list(
            SecretResource, required=False, labels={MANAGED_LABEL: "true"}, metadata_only=True
        )

    async def service_accounts(self) -> tuple[Manifest, ...]:
        """Return the service accounts."""
        from keyferry.kubernetes.api.resources import ServiceAccountResource

        return await self._list(ServiceAccountResource, required=False)

    async def ingresses(self) -> tuple[Manifest, ...]:
        """Return the ingresses."""
        from keyferry.kubernetes.api.resources import IngressResource

        return await self._list(IngressResource, required=False)

    async def _list(
        self,
        kind: type[Resource],
        *,
        required: bool = True,
        labels: dict[str, str] | None = None,
        metadata_only: bool = False,
    ) -> tuple[Manifest, ...]:
        from keyferry.errors import StorePermissionError
        from keyferry.kubernetes.api.client import ListOptions
        from keyferry.kubernetes.api.resources import resource_name

        selection = ListOptions(kind, self._namespace, labels or {}, metadata_only=metadata_only)
        try:
            return await self._api.list(selection)
        except StorePermissionError:
            if required:
                raise
            console().warn(
                f"{resource_name(kind)} cannot be read, so what depends on them is empty"
            )
            return ()


def _key(manifest: Manifest) -> tuple[str, str]:
    from keyferry.inventory.users import get, text

    return (
        text(get(manifest, "metadata", "namespace")),
        text(get(manifest, "metadata", "name")),
    )


def _object(row: ObjectRow) -> dict[str, object]:
    environment = row.environment
    return {
        "namespace": row.namespace,
        "pod": row.pod,
        "secretProviderClass": row.class_name,
        "object": row.object,
        "version": row.version,
        "environment": environment,
        "environmentOldSince": _iso(row.changed_at),
        "refreshedAt": _iso(row.refreshed_at),
        "node": row.node,
        "problem": row.problem,
    }


def _user(user: SecretUser) -> dict[str, object]:
    return asdict(user)


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat(timespec="seconds") if moment else None


def _ages(row: Mapping[str, object]) -> dict[str, object]:
    """Return the cells of the table that show how long ago something was."""
    since = _age(row.get("environmentOldSince"))
    return {
        "refreshed": _age(row.get("refreshedAt")),
        "environment": f"old for {since}" if since else row.get("environment", ""),
    }


def _age(moment: object) -> str:
    """Return how long ago a time was, as kubectl prints ages: `5s`, `3m`, `2h`, `4d`."""
    from datetime import UTC, datetime

    if not isinstance(moment, str):
        return ""
    seconds = max((datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds(), 0)
    for limit, unit, size in ((120, "s", 1), (7200, "m", 60), (172_800, "h", 3600)):
        if seconds < limit:
            return f"{int(seconds // size)}{unit}"
    return f"{int(seconds // 86_400)}d"
