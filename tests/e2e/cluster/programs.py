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
    """Where the programs are.

    Attributes:
        kubernetes: the folder of kube-apiserver, kubelet, kubectl and the others.
        helm: the program.
    """

    kubernetes: Path
    helm: Path

    def of_kubernetes(self, name: str) -> str:
        """The path of a program of Kubernetes."""
        return str(self.kubernetes / name)

    @staticmethod
    def of_system(name: str) -> str:
        """The path of a program of a Debian package, also where the PATH lacks /usr/sbin."""
        found = shutil.which(name, path=_SYSTEM_FOLDERS)
        assert found is not None, f"{name} is missing: run scripts/cluster/build.sh"
        return found


async def built_programs() -> Programs:
    """Build or install whatever is missing: minutes the first time, an instant afterwards."""
    script = [str(_ROOT / "scripts" / "cluster" / "build.sh")]
    run = await asyncio.to_thread(
        subprocess.run, script, stdout=subprocess.PIPE, text=True, check=True
    )
    kubernetes, helm = run.stdout.split()
    return Programs(Path(kubernetes), Path(helm) / "helm")
