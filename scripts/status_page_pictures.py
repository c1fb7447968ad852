"""Takes the pictures of docs/operations/status-page.md with Chromium. `make pictures` runs it.

The pages show the example of the tests, in light and dark.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from keyferry.status_page.server import serving_page
from tests.e2e.browser import Browser, running_browser
from tests.fakes.clock import ManualClock
from tests.fakes.status_page import ExampleSource

IMAGES = Path(__file__).parents[1] / "docs" / "images"
PICTURES = {
    "status-page-light.webp": ("/", False),
    "status-page-dark.webp": ("/", True),
    "status-page-classes.webp": ("/classes", False),
    "status-page-vaults.webp": ("/vaults", True),
}
"""File -> path of the page, and whether it is dark."""
_WIDTH = 1180


async def main() -> None:
    """Take all pictures."""
    clock = ManualClock()
    async with (
        serving_page(
            ("127.0.0.1", 0),
            ExampleSource(),
            server="keyferry-sync-7c9d-abcde",
            clock=clock,
            flag="--port",
        ) as port,
        running_browser() as browser,
    ):
        for name, (path, dark) in PICTURES.items():
            picture = await _picture(browser, f"http://127.0.0.1:{port}{path}", dark=dark)
            (IMAGES / name).write_bytes(picture)
            print(f"{name}: {len(picture):,} bytes")


async def _picture(browser: Browser, url: str, *, dark: bool) -> bytes:
    async with browser.tab(width=_WIDTH, height=100, dark=dark) as tab:
        await tab.open(url)
        return await tab.screenshot(format="webp", quality=85)


if __name__ == "__main__":
    asyncio.run(main())
