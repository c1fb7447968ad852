"""The programs of the cluster: Kubernetes and Helm from the cache, the others from Debian."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path(__file__).parents[3]
_SYSTEM_FOLDERS = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Programs:
    """The paths of the programs.

    Attributes:
        kubernetes: the folder of kube-apiserver, kubelet, kubectl and others.
        helm: the path of helm.
    """

    kubernetes: Path
    helm: Path

    def of_kubernetes(self, name: str) -> str:
        """Return the path of a Kubernetes program."""
        return str(self.kubernetes / name)

    @staticmethod
    def of_system(name: str) -> str:
        """Return the path of a program from a Debian package, even if PATH lacks /usr/sbin."""
        path = shutil.which(name, path=_SYSTEM_FOLDERS)
        assert path is not None, f"{name} is missing: run scripts/cluster/build.sh"
        return path


async def built_programs() -> Programs:
    """Build or install missing programs, which takes minutes the first time."""
    script = [str(_ROOT / "scripts" / "cluster" / "build.sh")]
    run = await asyncio.to_thread(
        subprocess.run, script, stdout=subprocess.PIPE, text=True, check=True
    )
    kubernetes, helm = run.stdout.split()
    return Programs(Path(kubernetes), Path(helm) / "helm")
