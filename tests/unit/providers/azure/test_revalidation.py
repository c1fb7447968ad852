"""keyferry.providers.azure.revalidation: which cached content a list covers."""

from __future__ import annotations

from typing import Any

import pytest

from keyferry.providers.azure.objects import ObjectType
from keyferry.providers.azure.revalidation import READ_VERB, CollectionListing
from keyferry.providers.azure.revalidation_rules import TimestampedContent
from keyferry.records import replace
from keyferry.resilience.cache_key import CacheKey, IdentityKey

WEB = IdentityKey("Mode", ("web",))
ADMIN = IdentityKey("Mode", ("admin",))
NOBODY: Any = None
DATED = TimestampedContent(NOBODY, 0.0)


def key(
    vault: str = "contoso",
    who: IdentityKey = WEB,
    item: tuple[str, ...] = (READ_VERB, "secret", "db", ""),
) -> CacheKey:
    return CacheKey(vault, who, item)


SECRETS = CollectionListing(NOBODY, key(), ObjectType.SECRET)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (key(), True),
        (key(item=(READ_VERB, "secret", "other", "")), True),
        # Each identity is answered for itself, and each vault.
        (key(who=ADMIN), False),
        (key("fabrikam"), False),
        (key(item=(READ_VERB, "key", "db", "")), False),
        (key(item=(READ_VERB, "secret", "db", "1")), False),
        (key(item=("list versions", "secret", "db")), False),
        (SECRETS.list_key, False),
    ],
)
def test_list_covers_current_versions_of_one_type_for_one_identity(
    answer: CacheKey, expected: bool
) -> None:
    """Nothing else."""
    assert expected is SECRETS.covers(answer, DATED)


def test_list_does_not_cover_other_kinds_of_values() -> None:
    """Such as a cached list."""
    assert not SECRETS.covers(key(), frozenset({key()}))


def test_each_identity_has_its_own_list() -> None:
    """A list of another identity, vault or type shows nothing."""
    others = [
        replace(SECRETS, key=key(who=ADMIN)),
        replace(SECRETS, key=key("fabrikam")),
        replace(SECRETS, type=ObjectType.KEY),
    ]
    assert 4 == len({SECRETS.list_key, *(other.list_key for other in others)})
