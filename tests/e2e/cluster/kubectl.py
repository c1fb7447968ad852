"""kubectl, with the kubeconfig of one user."""

from __future__ import annotations

import asyncio
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

_CALL_SECONDS = 180
"""Longer than any timeout of `kubectl wait`."""

Document = dict[str, Any]
"""A Kubernetes object as JSON."""


@dataclass(frozen=True)
class Kubectl:
    """Calls kubectl.

    Attributes:
        program: the path of kubectl.
        kubeconfig: selects the cluster and the user.
    """

    program: str
    kubeconfig: Path

    async def __call__(self, *arguments: str, stdin: str = "") -> str:
        """Run kubectl and return its standard output.

        Raises:
            AssertionError: the call failed; the message contains its output.
        """
        command = [self.program, "--kubeconfig", str(self.kubeconfig), *arguments]
        run = await asyncio.to_thread(
            subprocess.run,
            command,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=_CALL_SECONDS,
        )
        assert 0 == run.returncode, f"kubectl {' '.join(arguments)}: {run.stderr or run.stdout}"
        return run.stdout

    async def apply(self, *documents: Document, namespace: str = "default") -> None:
        """Apply objects, in `namespace` unless they name another one."""
        await self(
            "apply",
            f"--namespace={namespace}",
            "--filename=-",
            stdin=yaml.safe_dump_all(documents),
        )

    async def get(self, *arguments: str) -> Document:
        """Return one object, or a list object with `items`."""
        document: Document = json.loads(await self("get", *arguments, "--output", "json"))
        return document


def write_kubeconfig(path: Path, *, server: str, ca: Path, certificate: Path, key: Path) -> Path:
    """Write a kubeconfig for a user with a client certificate; return `path`."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "keyferry",
        "clusters": [
            {"name": "keyferry", "cluster": {"server": server, "certificate-authority": str(ca)}}
        ],
        "contexts": [{"name": "keyferry", "context": {"cluster": "keyferry", "user": "user"}}],
        "users": [
            {
                "name": "user",
                "user": {"client-certificate": str(certificate), "client-key": str(key)},
            }
        ],
    }
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(document))
    return path
