"""Fixtures of the end-to-end tests: the root check, a node, and figures for the report."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Protocol

import pytest

from keyferry.process import can_mount
from tests.e2e.figures import figures
from tests.e2e.node import Node, running_node


class Worker(Protocol):
    """A worker process of a parallel pytest run.

    Attributes:
        config: the configuration of the controller, which prints the report.
    """

    config: pytest.Config


@pytest.fixture(autouse=True)
def right_to_mount() -> None:
    """Fail, rather than skip, if the process may not mount a tmpfs."""
    if not can_mount():
        pytest.fail("the end-to-end tests mount volumes: run them as root (CAP_SYS_ADMIN)")


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    """A node with a development vault and no driver; the test starts the driver."""
    async with running_node(tmp_path, "--quiet") as running:
        yield running


@pytest.fixture
def show(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Add a figure of the test to the end of pytest's output."""
    lines = figures(request.config)
    name = request.node.name
    return lambda line: lines.append(f"{name}: {line}")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Pass the figures of a worker to the controller."""
    if (handed_over := getattr(session.config, "workeroutput", None)) is not None:
        handed_over["figures"] = figures(session.config)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Worker) -> None:
    """Collect the figures of a worker; a crashed worker has none."""
    figures(node.config).extend(getattr(node, "workeroutput", {}).get("figures", []))


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print the figures, also those of passed tests."""
    if lines := figures(config):
        terminalreporter.section("figures")
        for line in lines:
            terminalreporter.write_line(line)
