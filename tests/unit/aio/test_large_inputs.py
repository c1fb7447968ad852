"""LargeInputParser: an event loop goes on while a large input is parsed."""

from __future__ import annotations

import threading

import pytest

from keyferry.aio.large_inputs import MAX_INLINE_BYTES, LargeInputParser


@pytest.mark.parametrize("size", [0, MAX_INLINE_BYTES, MAX_INLINE_BYTES + 1])
async def test_only_large_inputs_are_parsed_on_a_thread(size: int) -> None:
    parser = LargeInputParser()
    thread = await parser.run(threading.current_thread, {"objects": "x" * size}, tenant="shop")
    assert (thread is not threading.current_thread()) == (size > MAX_INLINE_BYTES)


async def test_error_of_a_parser_is_raised() -> None:
    def parse() -> None:
        raise ValueError("line 3")

    with pytest.raises(ValueError, match="line 3"):
        await LargeInputParser().run(parse, {"objects": "x" * 20_000}, tenant="shop")
