"""keyferry.resilience.cache_key: keyed digests distinguish identities and reveal no secret."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from keyferry.resilience.cache_key import IdentityHasher

HASHER = IdentityHasher(b"a" * 32)
PARTS = st.lists(st.text(max_size=6), max_size=4).map(tuple)


def test_digest_depends_on_the_key() -> None:
    """Without the key nobody can check guesses of a secret."""
    identity = HASHER.identity_key("approle", ("role", "canary"))
    assert identity == HASHER.identity_key("approle", ("role", "canary"))
    assert identity != IdentityHasher(b"b" * 32).identity_key("approle", ("role", "canary"))
    assert "canary" not in "".join(identity.digest)
    assert "approle" == identity.mode


@given(PARTS, PARTS)
def test_identities_are_equal_only_if_their_parts_are(
    one: tuple[str, ...], other: tuple[str, ...]
) -> None:
    assert (one == other) is (HASHER.identity_key("m", one) == HASHER.identity_key("m", other))


def test_parts_with_separators_stay_distinct() -> None:
    similar = [("a\0" + "1:b",), ("a", "b"), ("ab",), ("a", "", "b"), ("a", "b", ""), ("a\0b",)]
    assert len(similar) == len({HASHER.identity_key("m", parts) for parts in similar})


def test_text_that_is_not_valid_unicode_has_a_digest() -> None:
    """A Secret may contain any bytes."""
    assert HASHER.identity_key("m", ("\udc80",)) != HASHER.identity_key("m", ("\udc81",))
