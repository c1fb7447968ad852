"""The cloud of the comparison: a development vault at the addresses of Azure."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from keyferry_devvault.client import DevRedirect
from keyferry_devvault.clouds import IMDS_HOST
from keyferry_devvault.request_log import RequestLog
from keyferry_devvault.storage.data import DevVaultData
from tests.compat.world import CLOUD_PORT, relay
from tests.e2e.children import Children
from tests.fakes.devvault import DevVault

_HTTP_PORT = 80
_NMI = ("127.0.0.1", 2579)


@asynccontextmanager
async def running_cloud(folder: Path, children: Children) -> AsyncIterator[DevVault]:
    """Vaults and token endpoint at port 443, metadata service and NMI at their addresses.

    Args:
        folder: of its data, `ca.pem` among them.
        children: it becomes one of them, so its journal stays empty here.
    """
    with DevVaultData(folder) as data:
        child = children.start(
            *("cloud", "keyferry", "devvault", "run", "--quiet"),
            *("--listen", f"127.0.0.1:{CLOUD_PORT}", "--data", str(folder)),
        )
        await child.says("listens")
        redirect = DevRedirect.read(folder)
        imds = relay((IMDS_HOST, _HTTP_PORT), redirect.http)
        async with imds, relay(_NMI, redirect.http):
            yield DevVault(data, RequestLog(), redirect)
