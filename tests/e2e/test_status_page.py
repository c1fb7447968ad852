"""The status page in Chromium: light and dark, wide and narrow, without script, for everybody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest

from keyferry.records import replace
from keyferry.status_page.facts import ClassFacts, ClusterFacts
from keyferry.status_page.server import serving_page
from tests.e2e.browser import Browser, ProtocolError, Tab, running_browser
from tests.fakes.clock import ManualClock
from tests.fakes.status_page import NOW, ExampleSource, volume

PAGES = (
    "/",
    "/?namespace=shop",
    "/workloads",
    "/workloads?q=nothing",
    "/namespaces?state=failing",
    "/classes",
    "/vaults",
    "/vaults?vault=contoso.vault.azure.net",
    "/nowhere",
)


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """Debian's Chromium."""
    async with running_browser() as running:
        yield running


@pytest.fixture
async def address() -> AsyncIterator[str]:
    """The page of the example."""
    async with serving_page(
        ("127.0.0.1", 0), ExampleSource(), server="example", clock=ManualClock(), flag="--port"
    ) as port:
        yield f"http://127.0.0.1:{port}"


def described(violations: list[dict[str, Any]]) -> list[str]:
    return [
        f"{each['id']}: {node['html']} {node['failureSummary']}"
        for each in violations
        for node in each["nodes"]
    ]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
async def test_pages_have_no_barriers(
    browser: Browser, address: str, width: int, dark: bool
) -> None:
    """axe-core finds none, contrasts of both color schemes included; nothing is blocked."""
    async with browser.tab(width=width, dark=dark) as tab:
        for page in PAGES:
            await tab.open(address + page)
            assert [] == blocked(tab), page
            assert [] == described(await tab.axe()), page


def blocked(tab: Tab) -> list[str]:
    """Return what the browser logged as an error, such as a blocked style sheet."""
    return [
        each["params"]["entry"]["text"]
        for each in tab.events
        if each["method"] == "Log.entryAdded"
        and each["params"]["entry"]["level"] == "error"
        and "404" not in each["params"]["entry"]["text"]
    ]


async def test_page_that_refreshes_itself_has_no_other_barrier(
    browser: Browser, address: str
) -> None:
    """It does so only after somebody asked for it, and says how to stop it."""
    async with browser.tab() as tab:
        await tab.open(f"{address}/?refresh=30")
        assert [] == described(await tab.axe("meta-refresh"))


async def test_colors_follow_the_color_scheme(browser: Browser, address: str) -> None:
    """Without a setting of the page."""
    found = set()
    for dark in (False, True):
        async with browser.tab(dark=dark) as tab:
            await tab.open(address)
            found.add(await tab.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert {"rgb(245, 246, 250)", "rgb(16, 18, 26)"} == found


@pytest.mark.parametrize("page", PAGES)
async def test_narrow_screen_does_not_scroll_sideways(
    browser: Browser, address: str, page: str
) -> None:
    """Wide tables scroll by themselves."""
    async with browser.tab(width=360, height=740) as tab:
        await tab.open(address + page)
        assert 360 >= await tab.evaluate("document.documentElement.scrollWidth")


async def test_filters_work_without_script(browser: Browser, address: str) -> None:
    """Links and the form are plain HTML; a click with the mouse and the Enter key are enough."""
    async with browser.tab(script=False) as tab:
        await tab.open(address)
        await click(tab, ".tile.failing")
        await until(tab, "location.pathname + location.search == '/workloads?state=failing'")
        assert 2 == await tab.evaluate("document.querySelectorAll('tbody tr').length")
        await click(tab, "input[name=q]")
        await tab.call("Input.insertText", text="stripe")
        await press_enter(tab)
        await until(tab, "/q=stripe.*state=failing/.test(location.search)")
        assert 1 == await tab.evaluate("document.querySelectorAll('tbody tr').length")
        await click(tab, "summary")
        await until(tab, "document.querySelector('details').open")


async def until(tab: Tab, condition: str) -> None:
    """Wait until the page is loaded and fulfills a condition."""
    async with asyncio.timeout(60):
        while True:
            with suppress(ProtocolError):  # another page was opened meanwhile
                if await tab.evaluate(f"document.readyState == 'complete' && ({condition})"):
                    return
            await asyncio.sleep(0.05)


async def click(tab: Tab, selector: str) -> None:
    """Click on an element."""
    box = await tab.evaluate(
        f"(r => [r.x + r.width / 2, r.y + r.height / 2])"
        f"(document.querySelector({selector!r}).getBoundingClientRect())"
    )
    for kind in ("mousePressed", "mouseReleased"):
        await tab.call(
            "Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1
        )


async def press_enter(tab: Tab) -> None:
    """Press the Enter key."""
    for kind in ("keyDown", "keyUp"):
        await tab.call(
            "Input.dispatchKeyEvent", type=kind, key="Enter", windowsVirtualKeyCode=13, text="\r"
        )


async def test_hostile_names_run_no_script(browser: Browser) -> None:
    """Neither by HTML nor by an address."""
    hostile = "<img src=x onerror=document.title='broken'><script>document.title='broken'</script>"
    rows = tuple(
        replace(row, pod=hostile, class_name=hostile, node="javascript:alert(1)")
        for row in volume("a", (hostile, hostile), problem=hostile * 9)
    )
    facts = ClusterFacts(NOW, (rows,), (), (ClassFacts("shop", hostile, hostile, (hostile,)),))
    async with (
        serving_page(
            ("127.0.0.1", 0),
            ExampleSource(facts),
            server=hostile,
            clock=ManualClock(),
            flag="--port",
        ) as port,
        browser.tab() as tab,
    ):
        for page in ("/", "/workloads", "/classes", "/namespaces", "/vaults"):
            await tab.open(f"http://127.0.0.1:{port}{page}?q=%3Cimg")
            assert str(await tab.evaluate("document.title")).endswith("Keyferry")
            assert 0 == await tab.evaluate("document.querySelectorAll('img, script').length")
            assert [] == blocked(tab)
