"""`python -m bench.libraries`: what the imports of a driver cost.

Imports each library in a fresh interpreter that has imported those above it, and prints CPU time
and memory. `make bench` measures the whole start.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

LIBRARIES = {
    "asyncio, with ssl and logging": ("asyncio", "ssl", "logging"),
    "click": ("click",),
    "PyYAML": ("yaml",),
    "msgspec": ("msgspec",),
    "grpcio, with protobuf": ("keyferry.proto.csi_pb2", "grpc"),
    "aiohttp, client": ("keyferry.aio.http_library",),
    "aiohttp, server": ("keyferry.net.status_server",),
    "prometheus-client": ("prometheus_client",),
    "httpx2": ("httpx2",),
    "lightkube": ("lightkube",),
    "Keyferry, all of the driver": (
        "keyferry.cli.daemons.driver",
        "keyferry.driver.daemon",
        "keyferry.driver.node",
        "keyferry.kubernetes.api.store",
        "keyferry.providers.azure.provider",
        "keyferry.providers.vault.provider",
    ),
    "cryptography, at the first certificate": (
        "cryptography.x509",
        "cryptography.hazmat.primitives.serialization.pkcs12",
    ),
}
"""What the driver imports, in an order in which each needs only those above it."""
_MEASURE = """
import resource, sys
def now():
    lines = (line.split() for line in open("/proc/self/smaps_rollup"))
    sizes = {line[0]: int(line[1]) for line in lines if line[-1] == "kB"}
    used = resource.getrusage(resource.RUSAGE_SELF)
    anonymous = sizes["Anonymous:"]
    return used.ru_utime + used.ru_stime, anonymous, sizes["Rss:"] - anonymous
exec(sys.argv[1])
before = now()
exec(sys.argv[2])
print(*(after - first for after, first in zip(now(), before)))
"""


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m bench.libraries", description=__doc__)
    parser.add_argument("--repeat", type=int, default=5, help="imports of each; the least counts")
    repeat = parser.parse_args().repeat
    print("| library | CPU time, ms | memory, MiB | of files, MiB |\n|---|---:|---:|---:|")
    above = "pass"
    for name, modules in LIBRARIES.items():
        program = f"import {', '.join(modules)}"
        runs = [_import_cost(above, program) for _ in range(repeat)]
        seconds, anonymous, files = (min(column) for column in zip(*runs, strict=True))
        print(f"| {name} | {seconds * 1000:.0f} | {anonymous / 1024:.1f} | {files / 1024:.1f} |")
        above += f"; {program}"


def _import_cost(above: str, program: str) -> tuple[float, ...]:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", _MEASURE, above, program]
    run = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return tuple(float(word) for word in run.stdout.split())


if __name__ == "__main__":
    main()
