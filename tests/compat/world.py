"""An isolated network in which the hosts of Azure are this machine.

Upstream reaches a vault only by its host name, at port 443, and the metadata service by its
address. So a process that runs them moves into a network namespace that nothing leads out of, and
into a mount namespace whose /etc/hosts says where those names are; whatever it starts comes along.
The machine does not change; the namespaces are removed with the last process.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress

from keyferry_devvault.clouds import IMDS_HOST
from tests.e2e.cluster.network import enter_own_network
from tests.e2e.cluster.programs import Programs

CLOUD_PORT = 443
LOGIN_HOSTS = ("login.microsoftonline.com", "login.windows.net", "login.microsoft.com")

_CLONE_NEWNS = 0x20000


def enter_own_world(vaults: Iterable[str]) -> None:
    """Move into that world, for good; downloads end here. Call it before any thread is started.

    Args:
        vaults: the names of the vaults that are to be found.

    Raises:
        OSError: this user may not.
    """
    enter_own_network()
    _run("ip", "address", "add", f"{IMDS_HOST}/32", "dev", "lo")
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNS):
        error = ctypes.get_errno()
        raise OSError(error, f"no mount namespace: {os.strerror(error)}")
    _run("mount", "--make-rprivate", "/")
    names = [*LOGIN_HOSTS, *(f"{vault}.vault.azure.net" for vault in vaults)]
    with tempfile.NamedTemporaryFile("w") as hosts:
        hosts.write(f"127.0.0.1 localhost {' '.join(names)}\n")
        hosts.flush()
        os.fchmod(hosts.fileno(), 0o644)  # for the unprivileged processes of the driver
        _run("mount", "--bind", hosts.name, "/etc/hosts")


def _run(program: str, *arguments: str) -> None:
    subprocess.run([Programs.of_system(program), *arguments], check=True)


@asynccontextmanager
async def relay(listen: tuple[str, int], target: tuple[str, int]) -> AsyncIterator[None]:
    """Hand every connection to `listen` on to `target` until the block ends."""
    running: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(*target)
        async with asyncio.TaskGroup() as group:
            group.create_task(_pump(reader, there_writer))
            group.create_task(_pump(there_reader, writer))

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(serve(reader, writer))
        running.add(task)
        task.add_done_callback(running.discard)

    server = await asyncio.start_server(accept, *listen)
    try:
        yield
    finally:
        server.close()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while text := await reader.read(1 << 16):
            writer.write(text)
            await writer.drain()
    finally:
        with suppress(OSError):
            writer.close()
