"""What every end-to-end test shares: root, a node that ends with the test, a place for figures."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Protocol

import pytest

from keyferry.driver.volumes.mounter import can_mount
from tests.e2e.figures import figures
from tests.e2e.node import Node, running_node


class Worker(Protocol):
    """One of the processes of a run side by side.

    Attributes:
        config: that of the process which prints.
    """

    config: pytest.Config


@pytest.fixture(autouse=True)
def right_to_mount() -> None:
    """These tests mount a tmpfs; without the right to do so they fail, they do not skip."""
    if not can_mount():
        pytest.fail("the end-to-end tests mount volumes: run them as root (CAP_SYS_ADMIN)")


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    """A node with a development vault; the test starts the driver."""
    async with running_node(tmp_path, "--quiet") as running:
        yield running


@pytest.fixture
def show(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Takes a figure of the test, for the end of pytest's output."""
    lines = figures(request.config)
    name = request.node.name
    return lambda line: lines.append(f"{name}: {line}")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand the figures of a worker over to the process that prints them."""
    if (handed_over := getattr(session.config, "workeroutput", None)) is not None:
        handed_over["figures"] = figures(session.config)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Worker) -> None:
    """Take the figures of a worker; one that crashed has none."""
    figures(node.config).extend(getattr(node, "workeroutput", {}).get("figures", []))


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print the figures, of passed tests too."""
    if lines := figures(config):
        terminalreporter.section("figures")
        for line in lines:
            terminalreporter.write_line(line)
