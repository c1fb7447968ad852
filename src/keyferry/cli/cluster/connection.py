"""The options by which a command finds a cluster, as those of kubectl, and the connection to it."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from msgspec import Struct

from keyferry.cli.commands import option

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from lightkube.config.kubeconfig import SingleConfig

    from keyferry.kubernetes.api.client import KubeApi
    from keyferry.kubernetes.api.streams import PodStreams

F = TypeVar("F", bound="Callable[..., Any]")
_SECTION = "Cluster"


class ClusterOptions(Struct, frozen=True):
    """Where a command works.

    Attributes:
        kubeconfig: the file; None for the variable KUBECONFIG, then that of kubectl.
        context: of the file; None for the current one.
        namespace: None for that of the context.
    """

    kubeconfig: Path | None
    context: str | None
    namespace: str | None


class Cluster(Struct, frozen=True):
    """An open connection.

    Attributes:
        api: sends requests.
        namespace: the namespace of the command.
        config: the address and the credentials, for further connections.
    """

    api: KubeApi
    namespace: str
    config: SingleConfig


context_option = option(
    "--context", metavar="NAME", section=_SECTION, help="Context of the kubeconfig."
)
kubeconfig_option = option(
    "--kubeconfig",
    type=click.Path(),
    metavar="FILE",
    section=_SECTION,
    help="File with the address and the credentials of the cluster.",
)


def cluster_options(command: F) -> F:
    """Add the options; their values are the argument `options`, a `ClusterOptions`."""

    @wraps(command)
    def run(
        *args: Any,
        kubeconfig: str | None,
        context: str | None,
        namespace: str | None,
        **kwargs: Any,
    ) -> Any:
        path = Path(kubeconfig) if kubeconfig else None
        return command(*args, options=ClusterOptions(path, context, namespace), **kwargs)

    for add in (
        context_option,
        kubeconfig_option,
        option(
            "-n",
            "--namespace",
            metavar="NAME",
            section=_SECTION,
            help="Namespace; default: that of the context.",
        ),
    ):
        run = add(run)
    return run  # type: ignore[return-value]


@asynccontextmanager
async def open_cluster(options: ClusterOptions) -> AsyncIterator[Cluster]:
    """Open the connection; leaving the block closes it.

    Raises:
        StoreError: no cluster is configured, or its credentials cannot be used.
    """
    from keyferry.kubernetes.api.client import open_api
    from keyferry.kubernetes.api.config import load_config

    # As kubectl, except that it merges the files of a list; here the first one counts.
    named = next(filter(None, os.environ.get("KUBECONFIG", "").split(os.pathsep)), None)
    path = options.kubeconfig or (Path(named) if named else None)
    config = load_config(path, context=options.context)
    async with open_api(config, rbac_remedy=user_rbac_remedy) as api:
        yield Cluster(api, options.namespace or config.namespace or "default", config)


def pod_streams(cluster: Cluster) -> AbstractAsyncContextManager[PodStreams]:
    """Return streams to the pods of a cluster; leaving the block closes them.

    Raises:
        StoreError: a certificate of the kubeconfig cannot be used.
    """
    from keyferry.kubernetes.api.streams import open_streams

    return open_streams(cluster.config, rbac_remedy=user_rbac_remedy)


def user_rbac_remedy(verb: str, resource: str, name: str) -> str:
    """Return how to grant a permission that the user of a command lacks.

    Args:
        verb: of RBAC.
        resource: the plural with its group.
        name: the object, or the namespaces of a list.
    """
    where = "Role in that namespace" if "/" in name else "ClusterRole"
    return (
        f"Ask for the verb {verb} on {resource} with a {where} and its binding, or choose another"
        " --context."
    )
