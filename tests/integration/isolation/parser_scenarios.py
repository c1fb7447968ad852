"""Scenarios with a real parser, in a process without threads: `python -m ... NAME`.

Writes what happened as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import socket
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

from keyferry.aio.clock import SystemClock
from keyferry.aio.jobs import ParseJob
from keyferry.errors import KeyferryError, SecretDataError
from keyferry.isolation.child import ChildSupervisor
from keyferry.isolation.parser import run_parser
from keyferry.isolation.parser_pool import ParserPool
from keyferry.isolation.sandbox import Sandbox
from keyferry.isolation.spawner import ChildProgram, Role, Spawner
from keyferry.providers.sources.extracting import EXTRACTION
from keyferry.rendering.extraction import ExtractionBatch, ExtractionRequest
from keyferry.telemetry.metrics import Metrics

UID = 65502


def _rights(hidden: str) -> dict[str, str]:
    status = dict(
        line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines()
    )
    try:
        with socket.create_connection(("127.0.0.1", 1), 1):
            network = "connected"
    except OSError as error:
        network = os.strerror(error.errno or 0)
    try:
        Path(hidden, "new").write_text("x")
        writable = "written"
    except OSError as error:
        writable = os.strerror(error.errno or 0)
    return {
        "uid": str(os.getuid()),
        "groups": str(os.getgroups()),
        "capabilities": status["CapEff"].strip() + status["CapBnd"].strip(),
        "no_new_privileges": status["NoNewPrivs"].strip(),
        "hidden": str(sorted(Path(hidden).iterdir())),
        "write": writable,
        "network": network,
        "core": str(resource.getrlimit(resource.RLIMIT_CORE)),
    }


def _echo(text: str) -> str:
    return text


def _spin(text: str) -> str:
    while True:
        pass


def _crash(text: str) -> str:
    os.kill(os.getpid(), signal.SIGKILL)
    return text


def _refuse(text: str) -> str:
    raise SecretDataError(f"{text} is not a key", "Replace it.")


def _allocate(megabytes: str) -> str:
    return str(len(bytearray(int(megabytes) << 20)))


def _work(seconds: str) -> str:
    while time.process_time() < float(seconds):
        pass
    own, parent = (os.getpriority(os.PRIO_PROCESS, pid) for pid in (0, os.getppid()))
    return "at lower priority" if own > parent else "done"


FUNCTIONS: dict[str, Any] = {
    "rights": _rights, "echo": _echo, "spin": _spin, "crash": _crash, "refuse": _refuse,
    "allocate": _allocate, "work": _work,
}  # fmt: skip
JOBS = {
    name: ParseJob(name, function, str, dict[str, str] if name == "rights" else str)
    for name, function in FUNCTIONS.items()
}
ALL_JOBS: dict[str, ParseJob[Any, Any]] = {**JOBS, EXTRACTION.name: EXTRACTION}


class Parser:
    """The parser of a scenario."""

    def __init__(self, pool: ParserPool) -> None:
        self.pool = pool

    async def run(self, name: str, argument: str, tenant: str = "shop") -> Any:
        """Return the result of a job, or the text of its error."""
        try:
            return await self.pool.run(JOBS[name], argument, tenant=tenant)
        except KeyferryError as error:
            return f"{type(error).__name__}: {error.problem}"


async def rights(parser: Parser, folder: Path) -> Any:
    """What a job may do."""
    return await parser.run("rights", str(folder))


async def stuck(parser: Parser, folder: Path) -> Any:
    """A job that never ends, asked for three times, beside jobs of another tenant."""
    spinning = asyncio.create_task(parser.run("spin", "evil", "evil"))
    await asyncio.sleep(0.2)
    started = time.monotonic()
    victim = await parser.run("echo", "fine")
    waited = time.monotonic() - started
    first = await spinning
    started = time.monotonic()
    again = await parser.run("spin", "evil", "evil")
    return {
        "victim": victim, "waited": waited, "first": first, "again": again,
        "refused_after": time.monotonic() - started,
    }  # fmt: skip


async def ended(parser: Parser, folder: Path) -> Any:
    """A job that ends the process, one that runs out of memory, and one that fails."""
    return [
        await parser.run("crash", "x"),
        await parser.run("allocate", "1000"),
        await parser.run("refuse", "x"),
        await parser.run("echo", "fine"),
    ]


async def turns(parser: Parser, folder: Path) -> Any:
    """The order in which jobs of three tenants are done."""
    done: list[str] = []

    async def job(tenant: str) -> None:
        await parser.run("echo", "x", tenant)
        done.append(tenant)

    await asyncio.gather(*(job(tenant) for tenant in ("a", "a", "a", "a", "b", "c")))
    return done


async def kept_apart(parser: Parser, folder: Path) -> Any:
    """Jobs of a tenant that wait behind its job that never ends, then those of another one."""
    evil = [asyncio.create_task(parser.run("spin", f"evil {n}", "evil")) for n in range(6)]
    await asyncio.gather(evil[0])
    started = time.monotonic()
    for _ in range(5):
        assert await parser.run("echo", "fine") == "fine"
    waited = time.monotonic() - started
    running = sum(not each.done() for each in evil)
    for each in evil:
        each.cancel()
    return {"waited": waited, "running": running}


async def slow(parser: Parser, folder: Path) -> Any:
    """Slow jobs of one tenant beside usual ones of another; each uses more CPU time in total."""
    done: list[str] = []

    async def job(name: str, argument: str, tenant: str) -> None:
        result = await parser.run(name, argument, tenant)
        done.append(f"{tenant}: {result}")

    evil = [job("work", str(0.4 * (number + 1)), "evil") for number in range(3)]
    await asyncio.gather(*evil, *(job("echo", f"{number}", "shop") for number in range(10)))
    return done


async def extraction(parser: Parser, folder: Path) -> Any:
    """Values inside of JSON and YAML, with a byte order mark and a broken expression."""
    expressions = ("a.b", "keys(a)", "to_number('1')")
    requests = [
        ExtractionRequest(b'\xef\xbb\xbf{"a": {"b": 1.10}}', expressions, expands=True),
        ExtractionRequest(b"a:\n  b: 1.10\n", expressions, expands=True, is_yaml=True),
        ExtractionRequest(b'{"a": null}', ("a.b",)),
        ExtractionRequest(b"a: 'x", ("a",), is_yaml=True),
        ExtractionRequest(b"\xff", ("a",)),
    ]
    done = await parser.pool.run(EXTRACTION, ExtractionBatch(tuple(requests)), tenant="shop")
    return [
        [
            each.problem,
            [value.decode() for value in each.values],
            dict(each.keys).get("a", b"").decode(),
        ]
        for each in done.items
    ]


SCENARIOS = {
    each.__name__: each for each in (rights, stuck, ended, turns, kept_apart, slow, extraction)
}


def main() -> None:
    """Run one scenario."""
    name, folder = sys.argv[1], Path(sys.argv[2])
    sandbox = Sandbox(
        uid=UID,
        network=False,
        hidden=(folder,),
        volume_source="keyferry",
        limits={resource.RLIMIT_DATA: 128 << 20, resource.RLIMIT_FSIZE: 0},
    )
    spawner = Spawner({Role.PARSER: ChildProgram(sandbox, partial(run_parser, jobs=ALL_JOBS))})

    async def run() -> Any:
        clock = SystemClock()
        supervisor = ChildSupervisor(spawner, Role.PARSER, Metrics(), clock)
        pool = ParserPool(supervisor, lambda: ALL_JOBS, clock)
        try:
            return await SCENARIOS[name](Parser(pool), folder)
        finally:
            await pool.close()

    sys.stdout.write(json.dumps(asyncio.run(run())))
    sys.stdout.flush()
    spawner.close()


if __name__ == "__main__":
    main()
