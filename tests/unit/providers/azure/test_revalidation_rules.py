"""Revalidation rules: what a list proves, and when it is worth its calls."""

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


def held(updated: int | None, asked: float) -> TimestampedContent:
    """A secret that was changed at `updated` and asked for at `asked`."""
    return TimestampedContent(
        KeyVaultSecret("canary", "v1", properties=Properties(updated_at=updated)), asked
    )


@pytest.mark.parametrize(
    ("content", "listed", "expected"),
    [
        (held(UPDATED, UPDATED + CLOCK_TOLERANCE_SECONDS), {"db": UPDATED}, True),
        # A second change in the same second would not show.
        (held(UPDATED, UPDATED + CLOCK_TOLERANCE_SECONDS - 1), {"db": UPDATED}, False),
        # The vault's clock is ahead of ours.
        (held(UPDATED, UPDATED - 10), {"db": UPDATED}, False),
        (held(UPDATED, UPDATED + 1e6), {"db": UPDATED + 1}, False),
        # Deleted, disabled, or of another collection.
        (held(UPDATED, UPDATED + 1e6), {}, False),
        # A vault that tells no times.
        (held(None, UPDATED + 1e6), {"db": UPDATED}, False),
    ],
)
def test_only_the_same_and_settled_time_is_a_proof(
    content: TimestampedContent, listed: dict[str, int], expected: bool
) -> None:
    """Anything else is fetched."""
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
def test_a_list_is_read_while_it_is_shorter_than_what_it_spares(
    objects: int, expected: int
) -> None:
    """In calls: a page is one, an object is one."""
    assert expected == max_list_pages(objects)


def test_no_value_is_in_a_repr() -> None:
    """Of what is held."""
    assert "canary" not in repr(held(UPDATED, 0.0))
