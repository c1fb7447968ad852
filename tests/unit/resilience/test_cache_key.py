"""Cache key: what is kept of an identity, and that it tells all of them apart."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from keyferry.resilience.cache_key import IdentityHasher

OURS = IdentityHasher(b"a" * 32)
PARTS = st.lists(st.text(max_size=6), max_size=4).map(tuple)


def test_what_is_kept_is_a_digest_that_nobody_else_can_make() -> None:
    """The same in this process; by another key another one, so no secret can be tried."""
    found = OURS.identity_key("approle", ("role", "canary"))
    assert found == OURS.identity_key("approle", ("role", "canary"))
    assert found != IdentityHasher(b"b" * 32).identity_key("approle", ("role", "canary"))
    assert "canary" not in "".join(found.digest)
    assert "approle" == found.mode


@given(PARTS, PARTS)
def test_other_parts_are_another_identity(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    """Wherever one of them ends, and whatever is in them."""
    assert (one == other) is (OURS.identity_key("m", one) == OURS.identity_key("m", other))


def test_parts_are_not_run_together() -> None:
    """Nobody becomes somebody else by a name with a clever character in it."""
    tricky = [("a\0" + "1:b",), ("a", "b"), ("ab",), ("a", "", "b"), ("a", "b", ""), ("a\0b",)]
    assert len(tricky) == len({OURS.identity_key("m", parts) for parts in tricky})


def test_text_that_is_no_unicode_has_a_digest_too() -> None:
    """A Secret may hold any bytes."""
    assert OURS.identity_key("m", ("\udc80",)) != OURS.identity_key("m", ("\udc81",))
