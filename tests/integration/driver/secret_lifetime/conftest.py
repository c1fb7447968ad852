"""Real drivers, an emulated API and its garbage collector."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from tests.fakes.clock import ManualClock
from tests.fakes.kube_api import KubeApiServer, running_api
from tests.fakes.kube_gc import collecting_garbage
from tests.fakes.kube_node import Node, running_node, scripted_class, secret_object
from tests.fakes.secret_lifetime import CLASSES, GRACE, Start


@pytest.fixture
async def api(mount_home: Path) -> AsyncIterator[KubeApiServer]:
    async with running_api(mount_home) as running, collecting_garbage(running):
        running.put(CLASSES, scripted_class("web", secret_object("db", "a")))
        yield running


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def start(mount_home: Path, api: KubeApiServer, clock: ManualClock) -> Start:
    """Start a node, or its driver again."""

    def run(name: str) -> AbstractAsyncContextManager[Node]:
        home = mount_home / name
        home.mkdir(exist_ok=True)
        return running_node(home, api, name, secret_grace_period=GRACE, clock=clock)

    return run


@pytest.fixture
async def node(start: Start) -> AsyncIterator[Node]:
    async with start("node-1") as running:
        yield running


@pytest.fixture
async def other(start: Start, node: Node) -> AsyncIterator[Node]:
    async with start("node-2") as running:
        yield running
