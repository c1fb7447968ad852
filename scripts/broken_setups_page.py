"""Break all set-ups on a cluster, and write docs/operations/broken-setups.md."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from tests.e2e.cluster.broken.alerts import promtool_path
from tests.e2e.cluster.broken.page import PAGE, render
from tests.e2e.cluster.broken.run import ROWS, observe_all
from tests.e2e.cluster.keyferry_image import fetch_keyferry_image
from tests.e2e.cluster.network import enter_own_network
from tests.e2e.cluster.programs import built_programs
from tests.e2e.vault.programs import server_programs

if __name__ == "__main__":
    asyncio.run(built_programs())
    fetch_keyferry_image()
    server_programs()
    promtool_path()
    enter_own_network()
    with tempfile.TemporaryDirectory(prefix="keyferry-") as folder:
        results = asyncio.run(observe_all(Path(folder)))
    PAGE.write_text(render(ROWS, results.said))
    for row in ROWS:
        found = results.outcomes[row.name]
        if found.stage != row.doctor:
            sys.stdout.write(f"{row.name}: {found.stage!r}, expected {row.doctor!r}\n")
    sys.stdout.write("".join(f"{s:6.1f} s {step}\n" for step, s in results.phases.items()))
