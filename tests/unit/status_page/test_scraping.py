"""`keyferry.status_page.scraping`: metrics of many processes, with bounds."""

from __future__ import annotations

import asyncio

from keyferry.errors import PlatformError
from keyferry.status_page.scraping import MAX_CONCURRENT, Target, scrape
from tests.fakes.status_page import exposition


def target(pod: str, port: int = 8095) -> Target:
    return Target("driver", "keyferry", pod, "node", "10.0.0.1", port)


class Reader:
    """Implements `MetricsReader`: some processes do not respond.

    Attributes:
        peak: the greatest number of concurrent reads.
    """

    def __init__(self) -> None:
        self.peak = 0
        self._reads = 0

    async def read(self, target: Target) -> bytes:
        self._reads += 1
        self.peak = max(self.peak, self._reads)
        await asyncio.sleep(0)
        try:
            match target.pod:
                case "silent":
                    await asyncio.Event().wait()
                case "failing":
                    raise PlatformError("cannot connect")
                case "binary":
                    return b"\xff"
            return exposition().encode()
        finally:
            self._reads -= 1


async def test_process_without_a_usable_answer_has_a_problem() -> None:
    """After a timeout, too; the others are read."""
    names = ("good", "silent", "failing", "binary")
    found = await scrape([*map(target, names), target("no port", 0)], Reader(), seconds=0.01)
    assert {
        "good": "",
        "silent": "no answer within 0.01 seconds",
        "failing": "cannot connect",
        "binary": "the answer is not in the text format of Prometheus",
        "no port": "the pod has no address or no port with the name metrics",
    } == {each.pod: each.problem for each in found}
    assert found[0].samples


async def test_number_of_concurrent_reads_is_limited() -> None:
    """A cluster may have thousands of nodes."""
    reader = Reader()
    found = await scrape([target(str(number)) for number in range(100)], reader)
    assert (100, MAX_CONCURRENT) == (len(found), reader.peak)
