"""Watches a Secret with kubectl, so that a short absence is noticed.

async with watching_secret(shop, "db") as watch:
    ...
    assert watch.kinds() == {"ADDED", "MODIFIED"}
"""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.e2e.cluster.namespace import Namespace
from tests.e2e.cluster.waiting import eventually


@dataclass
class SecretWatch:
    """The events of one Secret so far: kind and UID, in their order."""

    events: list[tuple[str, str]] = field(default_factory=list)

    def kinds(self) -> set[str]:
        """Return the kinds of the events, such as DELETED."""
        return {kind for kind, _ in self.events}

    def uids(self) -> set[str]:
        """Return the UIDs that the Secret has had."""
        return {uid for _, uid in self.events}


@asynccontextmanager
async def watching_secret(shop: Namespace, name: str) -> AsyncIterator[SecretWatch]:
    """Watch the existing Secret `name` while the block runs."""
    kubectl = shop.installed.kubectl
    process = await asyncio.create_subprocess_exec(
        kubectl.program,
        f"--kubeconfig={kubectl.kubeconfig}",
        f"--namespace={shop.name}",
        *("get", "secrets", f"--field-selector=metadata.name={name}"),
        *("--watch", "--output-watch-events", "--output=json"),
        stdout=subprocess.PIPE,
        limit=1 << 22,
    )
    watch = SecretWatch()

    async def seen() -> bool | None:
        return bool(watch.events) or None

    reading = asyncio.create_task(_read(process, watch))
    try:
        await eventually(seen, f"the watch of secret {name}")
        yield watch
    finally:
        process.terminate()
        await process.wait()
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def _read(process: asyncio.subprocess.Process, watch: SecretWatch) -> None:
    """Read objects; kubectl indents them, and each ends with a brace in the first column."""
    assert process.stdout is not None
    lines: list[bytes] = []
    async for line in process.stdout:
        lines.append(line)
        if line.rstrip() == b"}" or line.startswith(b'{"'):
            event = json.loads(b"".join(lines))
            lines.clear()
            watch.events.append((event["type"], event["object"]["metadata"]["uid"]))
