"""Daemons protect and return memory, and raise their limit of open files, before all else."""

from __future__ import annotations

import asyncio
import resource
import sys
from pathlib import Path

import pytest

from tests.fakes.cli import ISOLATION

_REPORT = """
import asyncio, ctypes, resource, sys
from keyferry.cli import main

def report(daemon):
    daemon.close()
    dumpable = ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)
    core = resource.getrlimit(resource.RLIMIT_CORE)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    print("dumpable", dumpable, "core", *core, "descriptors", soft == hard)

asyncio.run = report
sys.argv[0] = "keyferry"
main()
"""
"""Runs a command until it would start its event loop, then prints what protects the process."""


def _lower_soft_limits() -> None:
    """Give the child a core limit and a low limit of open files, as a container runtime may."""
    _, core = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (core, core))
    _, descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(64, descriptors), descriptors))


@pytest.mark.parametrize(
    "command",
    [
        (
            "driver",
            "--manifests={home}",
            "--endpoint=unix://{home}/csi.sock",
            "--volumes=folder",
            *ISOLATION,
        ),
        ("provider", "azure", "-endpoint=unix://{home}/azure.sock"),
        ("provider", "vault", "-endpoint=unix://{home}/vault.sock"),
        ("provider", "openbao", "-endpoint=unix://{home}/openbao.sock"),
    ],
)
async def test_daemon_is_not_dumpable_and_may_open_many_files(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    """Whatever limits it inherits, no core dump of it is written."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", _REPORT, *(part.format(home=tmp_path) for part in command)),
        stdout=asyncio.subprocess.PIPE,
        preexec_fn=_lower_soft_limits,
    )
    output, _ = await process.communicate()
    assert "dumpable 0 core 0 0 descriptors True\n" == output.decode()


_RESIDENT = """
import sys
from keyferry.process import return_freed_memory
if sys.argv[1] == "return":
    return_freed_memory()
blocks = []
for _ in range(3):
    blocks = [(b"x" * (1 << 20), b"y" * 50_000) for _ in range(60)]
    kept = [small for _, small in blocks]
    del blocks
status = open("/proc/self/status").read()
print(int(status.partition("VmRSS:")[2].split()[0]) // 1024)
"""
"""Allocates and frees large blocks with small ones between them, then prints its MiB in memory."""


async def test_large_blocks_are_returned_to_the_kernel() -> None:
    """The C library would keep them for later, and the container would be killed."""

    async def resident(mode: str) -> int:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _RESIDENT, mode, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await process.communicate()
        return int(output)

    kept, returned = await asyncio.gather(resident("keep"), resident("return"))
    assert returned + 20 < kept
