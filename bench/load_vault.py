"""The vault of the benchmark, a program in Go that makes its answers up (bench/vault)."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import urlopen

from bench.processes import ProcessUsage, process_usage
from keyferry_devvault.crypto.development_ca import CA_FILE, write_server_certificate
from tests.compat.world import CLOUD_PORT
from tests.e2e.children import Child, Children

VAULT = "load"
_SOURCE = Path(__file__).parent / "vault"


class Controls:
    """What can be changed while the program runs.

    Args:
        control: the address of its control port.
    """

    def __init__(self, control: str) -> None:
        self._control = control

    async def tune(self, *, rtt_ms: float, limit: int = 0) -> None:
        """Set latency and rate limit in requests per second (0: no limit)."""
        form = {"rtt": f"{rtt_ms}ms", "limit": limit, "retry_after": 1}
        await self._post("/tune", form)

    async def _post(self, path: str, form: dict[str, object]) -> None:
        await asyncio.to_thread(
            _http_request, f"http://{self._control}{path}", urlencode(form).encode()
        )


class LoadVault(Controls):
    """The running vault.

    Attributes:
        ca: the PEM file that its clients trust.
        child: the process.
    """

    def __init__(self, child: Child, control: str, ca: Path) -> None:
        super().__init__(control)
        self.child = child
        self.ca = ca

    def usage(self) -> ProcessUsage:
        """Of its process."""
        return process_usage([self.child.pid])

    async def rotate(self) -> None:
        """Give every secret a new version."""
        await self._post("/rotate", {})

    async def reset_counts(self) -> None:
        """Count from nothing."""
        await self._post("/forget", {})

    async def counts(self) -> dict[str, int]:
        """What was asked since then: secret, list, token, discovery, challenge, throttled."""
        text = await asyncio.to_thread(_http_request, f"http://{self._control}/counts", None)
        found: dict[str, int] = json.loads(text)
        return found


def _http_request(url: str, body: bytes | None) -> bytes:
    with urlopen(url, body) as answer:
        text: bytes = answer.read()
        return text


def build_load_vault(folder: Path) -> Path:
    """Compile it; takes a second when the compiler did it before."""
    program = folder / "load-vault"
    command = ["go", "build", "-buildvcs=false", "-o", str(program), "."]
    subprocess.run(command, cwd=_SOURCE, check=True)
    return program


@asynccontextmanager
async def running_load_vault(
    program: Path, folder: Path, children: Children
) -> AsyncIterator[LoadVault]:
    """Serve at port 443 until the children end; `folder` takes the certificate."""
    folder.mkdir(parents=True)
    certificate = write_server_certificate(folder)
    child = children.start(
        *("load-vault", str(program), f"--listen=127.0.0.1:{CLOUD_PORT}"),
        f"--certificate={certificate}",
    )
    said = await child.says(r"control on (\S+)")
    yield LoadVault(child, said[1], folder / CA_FILE)
