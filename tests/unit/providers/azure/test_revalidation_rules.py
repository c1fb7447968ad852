"""keyferry.providers.azure.revalidation_rules: unchanged content, and lists that pay."""

from __future__ import annotations

import pytest

from keyferry.providers.azure.responses import KeyVaultSecret, Properties
from keyferry.providers.azure.revalidation_rules import (
    CLOCK_TOLERANCE_SECONDS,
    TimestampedContent,
    has_not_changed,
    max_list_pages,
)

UPDATED = 1_700_000_000


def cached(updated: int | None, asked: float) -> TimestampedContent:
    """A secret that was changed at `updated` and asked for at `asked`."""
    return TimestampedContent(
        KeyVaultSecret("canary", "v1", properties=Properties(updated_at=updated)), asked
    )


@pytest.mark.parametrize(
    ("content", "listed", "expected"),
    [
        (cached(UPDATED, UPDATED + CLOCK_TOLERANCE_SECONDS), {"db": UPDATED}, True),
        # A second change in the same second would not show.
        (cached(UPDATED, UPDATED + CLOCK_TOLERANCE_SECONDS - 1), {"db": UPDATED}, False),
        # The vault's clock is ahead.
        (cached(UPDATED, UPDATED - 10), {"db": UPDATED}, False),
        (cached(UPDATED, UPDATED + 1e6), {"db": UPDATED + 1}, False),
        # Deleted, disabled, or of another collection.
        (cached(UPDATED, UPDATED + 1e6), {}, False),
        # A vault that sends no times.
        (cached(None, UPDATED + 1e6), {"db": UPDATED}, False),
    ],
)
def test_content_is_unchanged_if_its_update_time_is_equal_and_old(
    content: TimestampedContent, listed: dict[str, int], expected: bool
) -> None:
    """Any other content is fetched."""
    assert expected == has_not_changed("DB", content, listed)


@pytest.mark.parametrize(
    ("objects", "expected"),
    [
        (0, 0),
        (1, 0),  # the object itself is as cheap
        (2, 1),
        (20, 19),
    ],
)
def test_list_is_worth_fewer_pages_than_objects(objects: int, expected: int) -> None:
    """A page costs one request, an object costs one request."""
    assert expected == max_list_pages(objects)


def test_repr_contains_no_value() -> None:
    """Of the cached content."""
    assert "canary" not in repr(cached(UPDATED, 0.0))
