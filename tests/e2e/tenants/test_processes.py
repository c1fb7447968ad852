"""The child processes of the driver: their privileges, and what happens when they end or hang."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.tenants.arena import Arena
from tests.e2e.tenants.processes import Process, read_process, unprivileged_children
from tests.e2e.tenants.tls_victim import tls_victim


def children(arena: Arena) -> tuple[Process, Process]:
    """Return the provider worker and the parser."""
    (worker,), (parser,) = unprivileged_children(arena.driver.child.pid)
    return worker, parser


async def test_children_have_no_privileges(arena: Arena) -> None:
    """No root, no capability, no way to get one, and other users than the driver and each other."""
    async with arena.attack(victim=tls_victim(arena)):
        worker, parser = children(arena)
        driver = read_process(arena.driver.child.pid)
    assert 3 == len({driver.uid, worker.uid, parser.uid})
    assert (0, 0) == (worker.capabilities, parser.capabilities)
    assert (True, True) == (worker.no_new_privileges, parser.no_new_privileges)
    assert driver.network == worker.network != parser.network


async def test_children_do_not_see_volumes(arena: Arena) -> None:
    """The folder of kubelet is empty for them, and they keep no mount of a volume."""
    volume, _ = tls_victim(arena)()
    async with arena.attack(victim=tls_victim(arena)):
        assert "" == await arena.publish(volume)
        seen = []
        for child in children(arena):
            root = Path(f"/proc/{child.pid}/root")
            seen.append((root / arena.pods.relative_to("/")).is_dir())
            seen.append((root / volume.path.relative_to("/")).exists())
            mounts = Path(f"/proc/{child.pid}/mountinfo").read_text()
            assert str(volume.path) not in mounts
        assert "" == await arena.unpublish(volume)
    assert seen[1::2] == [False, False]
