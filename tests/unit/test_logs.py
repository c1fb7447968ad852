"""keyferry.logs: the shapes that people's tools know (driver.md, section 6.2)."""

from __future__ import annotations

import json
import re

import pytest

from keyferry.logs import get_logger
from tests.fakes.log import captured_log

LETTERS = {"debug": "I", "info": "I", "warning": "W", "error": "E", "critical": "F"}


@pytest.mark.parametrize(("level", "letter"), list(LETTERS.items()))
def test_a_line_of_text_has_the_shape_of_klog(level: str, letter: str) -> None:
    """Letter, date, time with microseconds, process, caller, message, pairs."""
    with captured_log(verbosity=2) as log:
        getattr(get_logger("publish"), level)("it happened", pod="shop/web-0")
    shape = rf"{letter}\d{{4}} \d\d:\d\d:\d\d\.\d{{6}} +\d+ publish\] (.*)\n"
    found = re.fullmatch(shape, log.getvalue())
    assert found is not None
    assert '"it happened" pod="shop/web-0"' == found[1]


def test_json_has_the_keys_of_upstream_and_then_the_pairs() -> None:
    """level, timestamp, caller, message, in this order."""
    with captured_log(as_json=True) as log:
        get_logger("publish").error("it broke", pod="shop/web-0", objects=3)
    line = json.loads(log.getvalue())
    assert ["level", "timestamp", "caller", "message", "pod", "objects"] == list(line)
    assert ("error", "publish", "it broke", "3") == (
        line["level"],
        line["caller"],
        line["message"],
        line["objects"],
    )
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00", line["timestamp"])


@pytest.mark.parametrize("as_json", [True, False])
def test_one_event_is_one_line_whatever_it_says(as_json: bool) -> None:
    """A name from a class cannot forge a line, or the colours of a terminal."""
    with captured_log(as_json=as_json) as log:
        get_logger("publish").info('a\nE0101 "forged"', name="b\r\n\x1b[31m\u2028")
    assert 1 == len(log.getvalue().splitlines())
    assert "\x1b" not in log.getvalue()


@pytest.mark.parametrize(("verbosity", "shown"), [(0, False), (1, False), (2, True), (10, True)])
def test_details_are_shown_from_verbosity_two(verbosity: int, shown: bool) -> None:
    """As klog's -v."""
    with captured_log(verbosity=verbosity) as log:
        get_logger("publish").debug("detail")
    assert shown == ("detail" in log.getvalue())
