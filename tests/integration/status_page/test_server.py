"""The server of the status page, over a real socket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from keyferry.errors import PlatformError, StoreError
from keyferry.status_page.facts import ClusterFacts
from keyferry.status_page.server import serving_page
from tests.fakes.clock import ManualClock
from tests.fakes.status_page import ExampleSource


class FailingSource(ExampleSource):
    """A cluster that cannot be read."""

    async def read_cluster(self) -> ClusterFacts:
        raise StoreError("the Kubernetes API at <x> cannot be reached", "Check it.")


@asynccontextmanager
async def visitor(source: ExampleSource) -> AsyncIterator[aiohttp.ClientSession]:
    """A client of the page."""
    async with (
        serving_page(
            ("127.0.0.1", 0), source, server="pod-1", clock=ManualClock(), flag="--port"
        ) as port,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session,
    ):
        yield session


@pytest.mark.parametrize("path", ["/", "/workloads", "/namespaces", "/classes", "/vaults"])
async def test_pages_are_served(path: str) -> None:
    """As HTML that is not stored, with the hash of its style sheet."""
    async with visitor(ExampleSource()) as session, session.get(path) as response:
        assert 200 == response.status
        assert "text/html; charset=utf-8" == response.headers["Content-Type"]
        assert "no-store" == response.headers["Cache-Control"]
        assert "default-src 'none'" in response.headers["Content-Security-Policy"]
        assert "pod-1" in await response.text()


async def test_cluster_is_read_once_for_all_visitors() -> None:
    """Pages need only their part of the facts."""
    source = ExampleSource()
    async with visitor(source) as session:
        for path in ("/workloads", "/classes?q=x", "/", "/vaults"):
            async with session.get(path):
                pass
    assert ["cluster", "processes"] == source.reads


async def test_only_reads_under_a_local_name_are_answered() -> None:
    """A browser that was tricked to resolve another name to 127.0.0.1 sends that name."""
    source = ExampleSource()
    async with visitor(source) as session:
        async with session.get("/", headers={"Host": "attacker.example"}) as response:
            assert 421 == response.status
        async with session.post("/") as response:
            assert (405, "GET, HEAD") == (response.status, response.headers["Allow"])
        async with session.head("/") as response:
            assert (200, b"") == (response.status, await response.read())
            assert int(response.headers["Content-Length"]) > 1000
        async with session.get("/nowhere") as response:
            assert 404 == response.status
        async with session.get("/icon.svg") as response:
            assert "image/svg+xml; charset=utf-8" == response.headers["Content-Type"]
    assert ["cluster", "processes"] == source.reads


async def test_failed_read_is_reported_with_its_remedy() -> None:
    """The next visitor reads again."""
    async with visitor(FailingSource()) as session, session.get("/") as response:
        page = await response.text()
    assert 503 == response.status
    assert "at &lt;x&gt; cannot be reached" in page
    assert "Check it." in page


async def test_used_port_is_an_error() -> None:
    """With the flag that sets another one."""
    clock = ManualClock()
    async with serving_page(
        ("127.0.0.1", 0), ExampleSource(), server="a", clock=clock, flag="--port"
    ) as port:
        with pytest.raises(
            PlatformError, match=f"127.0.0.1:{port}: Address already in use.*--port"
        ):
            async with serving_page(
                ("127.0.0.1", port), ExampleSource(), server="b", clock=clock, flag="--port"
            ):
                pass
