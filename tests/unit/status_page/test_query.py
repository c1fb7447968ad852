"""`keyferry.status_page.query`: filters in the address."""

from __future__ import annotations

import pytest

from keyferry.status_page.query import Query, parse_query
from keyferry.status_page.workloads import State, take_inventory
from tests.fakes.status_page import CONTOSO, example_facts

FULL = Query("shop", "web", State.STALE, CONTOSO, "t7c5w", 3, refreshes=True)


@pytest.mark.parametrize("query", [Query(), FULL, Query(text="a&b=c#d e%"), Query(namespace="ü<>")])
def test_address_has_the_whole_query(query: Query) -> None:
    """And only what differs from everything."""
    path, _, text = query.url("/workloads").partition("?")
    assert ("/workloads", query) == (path, parse_query(text))
    assert "/x" == Query().url("/x")


@pytest.mark.parametrize(
    "text",
    [
        "state=broken&page=x&unknown=1",
        "page=0",
        "page=-1",
        "page=٣",
        "refresh=off",
        "&".join(f"a{number}=1" for number in range(100)),
        "namespace=%ff%20",
        "state",
    ],
)
def test_invalid_fields_have_no_effect(text: str) -> None:
    """An address of another version, or one that was typed."""
    assert {"", "\N{REPLACEMENT CHARACTER}"} >= {parse_query(text).namespace}
    assert (1, None, False) == (
        parse_query(text).page,
        parse_query(text).state,
        parse_query(text).refreshes,
    )


def test_long_texts_are_cut() -> None:
    """Names have at most 253 characters."""
    assert 253 == len(parse_query("q=" + "a" * 10_000).text)
    assert 1_000_000 == parse_query("page=9999999").page


@pytest.mark.parametrize(
    ("query", "names"),
    [
        (Query(namespace="monitoring"), ["grafana-0"]),
        (Query(namespace="shop", class_name="payments"), ["checkout-0"]),
        (Query(class_name="grafana"), ["grafana-0"]),
        (Query(state=State.EXPIRING), ["shop-tls"]),
        (Query(vault="partner.vault.azure.net"), ["partner-api"]),
        (Query(text="FORBIDDENBYRBAC"), ["checkout-0"]),
        (Query(text="tenant-07"), ["tenant-07"]),
        (Query(text="node-3"), ["web-6d4cf56db6-t7c5w"]),
        (Query(text="77aa90"), ["checkout-0"]),
        (Query(text="shop", state=State.PENDING), []),
    ],
)
def test_filters_select_workloads(query: Query, names: list[str]) -> None:
    """All of them have to fit; the text may be anywhere."""
    workloads = take_inventory(example_facts()).workloads
    assert names == [each.name for each in filter(query.selects, workloads)]


def test_change_leads_to_the_first_page() -> None:
    """And keeps the other fields."""
    assert Query("shop", "api", State.STALE, CONTOSO, "t7c5w", refreshes=True) == FULL.changed(
        class_name="api"
    )
    assert not Query(refreshes=True, page=2).has_filter()
    assert FULL.has_filter()
