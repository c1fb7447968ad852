"""keyferry.economy.spread: no moment at which all refresh."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from keyferry.economy.spread import next_refresh, refresh_offset


def test_nodes_and_identities_fill_the_interval_evenly() -> None:
    """A thousand of them: no tenth of the interval has less than half of its share, or twice it."""
    offsets = [
        refresh_offset(120.0, node=f"node-{node}", identity=f"shop/app-{app}")
        for node in range(100)
        for app in range(10)
    ]
    tenths = Counter(int(offset // 12.0) for offset in offsets)
    assert set(range(10)) == set(tenths)
    assert all(50 <= count <= 200 for count in tenths.values())


def test_the_moment_of_a_node_and_identity_is_always_the_same() -> None:
    """A restart moves nobody."""
    assert refresh_offset(60.0, node="a", identity="b") == refresh_offset(
        60.0, node="a", identity="b"
    )


def test_names_do_not_run_into_each_other() -> None:
    """Node and identity are told apart."""
    assert refresh_offset(60.0, node="ab", identity="c") != refresh_offset(
        60.0, node="a", identity="bc"
    )


@given(
    now=st.floats(0, 4e9),
    interval=st.floats(1.0, 1e5),
    node=st.text(max_size=8),
    identity=st.text(max_size=8),
)
def test_every_interval_has_one_refresh(
    now: float, interval: float, node: str, identity: str
) -> None:
    """The next one is at most an interval away, and the one after it an interval later."""
    offset = refresh_offset(interval, node=node, identity=identity)
    assert 0 <= offset < interval
    due = next_refresh(now, interval, offset)
    slack = 1e-6 * interval
    assert now - slack <= due <= now + interval + slack
    assert abs(next_refresh(due + slack, interval, offset) - due - interval) <= 2 * slack
