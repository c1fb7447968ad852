"""keyferry.telemetry.logs: the shapes that people's tools know.

Source: docs/reference/upstream-driver.md#logs
"""

from __future__ import annotations

import json
import re

import pytest

from keyferry.telemetry.logs import ObjectName, get_logger, log_context
from tests.fakes.log import captured_log

LETTERS = {"debug": "I", "info": "I", "warning": "W", "error": "E"}


@pytest.mark.parametrize(("level", "letter"), list(LETTERS.items()))
def test_text_line_has_the_format_of_klog(level: str, letter: str) -> None:
    """Letter, date, time with microseconds, process, caller, message, pairs."""
    with captured_log(verbosity=2) as log:
        getattr(get_logger("publish"), level)("it happened", pod="shop/web-0")
    shape = rf"{letter}\d{{4}} \d\d:\d\d:\d\d\.\d{{6}} +\d+ publish\] (.*)\n"
    found = re.fullmatch(shape, log.getvalue())
    assert found is not None
    assert '"it happened" pod="shop/web-0"' == found[1]


def test_json_line_has_the_keys_of_upstream_then_the_pairs() -> None:
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
def test_event_is_one_line_whatever_it_contains(as_json: bool) -> None:
    """User input cannot forge a line or terminal escape sequences."""
    with captured_log(as_json=as_json) as log:
        get_logger("publish").info('a\nE0101 "forged"', name="b\r\n\x1b[31m\u2028")
    assert 1 == len(log.getvalue().splitlines())
    assert "\x1b" not in log.getvalue()


@pytest.mark.parametrize(("verbosity", "shown"), [(0, False), (1, False), (2, True), (10, True)])
def test_debug_lines_are_logged_from_verbosity_two(verbosity: int, shown: bool) -> None:
    """As klog's -v."""
    with captured_log(verbosity=verbosity) as log:
        get_logger("publish").debug("detail")
    assert shown == ("detail" in log.getvalue())


def test_object_name_is_one_word_in_text_and_two_fields_in_json() -> None:
    """As klog does; a cluster-wide one has no namespace."""
    with captured_log() as text:
        get_logger("x").info("m", pod=ObjectName("shop", "web"), node=ObjectName("", "node-1"))
    assert ' pod="shop/web" node="node-1"\n' in text.getvalue()
    with captured_log(as_json=True) as log:
        get_logger("x").info("m", pod=ObjectName("shop", "web"))
    assert {"namespace": "shop", "name": "web"} == json.loads(log.getvalue())["pod"]


def test_log_context_applies_to_the_lines_of_its_block() -> None:
    """A pair of the line overrides a pair of the context."""
    with captured_log() as log:
        with log_context(pod="a", spc="b"):
            get_logger("x").info("in", spc="c")
        get_logger("x").info("out")
    inside, outside = log.getvalue().splitlines()
    assert inside.endswith('x] "in" pod="a" spc="c"')
    assert outside.endswith('x] "out"')


def test_lasting_condition_is_logged_once_for_the_same_pairs() -> None:
    """Whichever call meets it; other pairs are another condition."""
    with captured_log() as log:
        for pod in ("a", "b"):
            with log_context(pod=pod):
                get_logger("azure").warning_once("incomplete", object="cert x")
        get_logger("azure").warning_once("incomplete", object="cert y")
    lines = log.getvalue().splitlines()
    assert 2 == len(lines)
    assert 'pod="a"' in lines[0]
