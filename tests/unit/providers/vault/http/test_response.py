"""keyferry.providers.vault.http.response: the memory that a cached response takes."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest

from keyferry.providers.vault.http.response import memory_size, parse_response

MANY = 50


@pytest.mark.parametrize(
    "values",
    [
        {"password": "x" * 32, "user": "app"},
        {"text": "y" * 20_000},
        {"text": "\N{GRINNING FACE}" + "y" * 20_000},
        {f"key-{number}": f"value-{number}" for number in range(100)},
        {"list": list(range(2000))},
        {"list": [{"a": number} for number in range(1000)]},
        {"list": [[] for _ in range(3000)]},
    ],
)
def test_memory_size_is_close_to_the_real_size(values: dict[str, Any]) -> None:
    """Within a third plus the size of an empty response, for any shape."""
    body = json.dumps({"request_id": "r", "data": {"data": values}}).encode()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        kept = [parse_response(body) for _ in range(MANY)]
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    taken = (after - before) / MANY
    assert 0.66 * taken - 1024 <= memory_size(kept[0]) <= 1.5 * taken + 1024
