"""`keyferry.status_page.site`: the pages, and the headers of their responses."""

from __future__ import annotations

import re
from html import unescape

import pytest

from keyferry.errors import StoreError
from keyferry.records import replace
from keyferry.status_page.facts import ClassFacts, ClusterFacts, Process, ProcessFacts
from keyferry.status_page.query import Query
from keyferry.status_page.site import PATHS, Look, Site, headers, icon, refusal
from keyferry.status_page.workloads import State, take_inventory
from tests.fakes.status_page import (
    CONTOSO,
    NOW,
    example_facts,
    example_processes,
    exposition,
    sync,
    volume,
)
from tests.unit.status_page.test_vaults import process

SITE = Site(Look("body{}", "keyferry-sync-0", "1.2.3"))
HOSTILE = "<script>alert(1)</script>\"'>&\N{RIGHT-TO-LEFT OVERRIDE}x"


def render(
    path: str,
    query: Query = Query(),  # noqa: B008 - it is immutable
    facts: ClusterFacts | None = None,
    processes: ProcessFacts | None = None,
) -> str:
    """Return the HTML of a page."""
    inventory = take_inventory(facts or example_facts())
    return SITE.render(path, query, inventory, processes or example_processes()).body


def text_of(page: str) -> str:
    """Return the text of a page, without elements."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", page)).split())


def links_of(page: str) -> list[str]:
    return [unescape(each) for each in re.findall(r'href="([^"]*)"', page)]


def test_overview_counts_each_state_and_links_to_its_workloads() -> None:
    """With the filters of the page."""
    page = render("/", Query(namespace="shop"))
    counts = dict(re.findall(r'class="name">(\w+)</span><span class="count">(\d+)', page))
    assert {"Healthy": "3", "Stale": "1", "Failing": "1", "Expiring": "1"} == counts
    assert "/workloads?namespace=shop&state=failing" in links_of(page)
    assert "Only namespace shop" in text_of(page)


def test_overview_names_processes_that_do_not_respond() -> None:
    """A missing answer must not look like a healthy one."""
    assert "1 process does not respond: node-3" in text_of(render("/"))
    facts = ProcessFacts(NOW, (process(exposition()),))
    assert "does not respond" not in text_of(render("/", processes=facts))


def test_workloads_have_versions_ages_and_problems() -> None:
    """The rows of `keyferry status`."""
    text = text_of(render("/workloads", Query(text="shop-tls")))
    for part in ("Expiring", "SecretSync in shop", "cert/shop-tls", "7m ago", "in 12d"):
        assert part in text
    text = text_of(render("/workloads", Query(state=State.FAILING, text="checkout")))
    assert "403 ForbiddenByRbac" in text
    assert "shop-tls" not in text.partition("Problem")[2]


def test_long_tables_have_pages() -> None:
    """Links lead to the neighbours, and keep the filters."""
    syncs = tuple(
        sync(f"s-{number:04}", {"id": "secret/x", "version": "1"}) for number in range(250)
    )
    facts = ClusterFacts(NOW, syncs=syncs)
    first = render("/workloads", Query(namespace="shop"), facts)
    assert "1 to 100 of 250" in text_of(first)
    assert "/workloads?namespace=shop&page=2" in links_of(first)
    last = render("/workloads", Query(page=99), facts)
    assert "201 to 250 of 250" in text_of(last)
    assert "/workloads?page=2" in links_of(last)
    assert "/workloads?page=3" not in links_of(last)


def test_namespaces_and_classes_are_counted() -> None:
    """Each number is a link to these workloads."""
    page = render("/namespaces")
    assert "/workloads?namespace=orders&state=failing" in links_of(page)
    assert ["shop", "orders", "monitoring", "tenants"] == re.findall(
        r'<tr><th scope="row" class="name-cell"><a href="[^"]*">([\w-]+)</a>', page
    )
    page = render("/classes")
    text = text_of(page)
    assert "spec.parameters.objects: line 3 is not valid YAML" in text
    assert "/workloads?namespace=shop&class=web&state=stale" in links_of(page)
    assert f"/vaults?vault={CONTOSO}" in links_of(page)


def test_missing_class_is_shown() -> None:
    """A workload still has what it was given."""
    facts = ClusterFacts(NOW, (volume("a", ("secret/x", "1")),))
    assert "does not exist" in text_of(render("/classes", facts=facts))


def test_class_without_workloads_is_shown() -> None:
    """Unless a state is selected."""
    facts = ClusterFacts(NOW, classes=(ClassFacts("shop", "unused", "azure"),))
    assert "unused" in text_of(render("/classes", facts=facts))
    selected = text_of(render("/classes", Query(state=State.STALE), facts))
    assert "No SecretProviderClass matches" in selected


def test_vault_page_shows_limits_and_each_process() -> None:
    """Of one vault: by process."""
    text = text_of(render("/vaults"))
    for part in ("open in 1 of 1", "waits 14s", "12 throttled", "1,486", "96%", "leader"):
        assert part in text
    assert "no answer timed out after 2 seconds" in text
    text = text_of(render("/vaults", Query(vault=CONTOSO)))
    assert "By process" in text
    assert "keyferry-m9s7d" in text
    assert "partner.vault" not in text
    assert "has called nowhere since" in text_of(render("/vaults", Query(vault="nowhere")))


@pytest.mark.parametrize("path", PATHS)
def test_empty_cluster_has_pages(path: str) -> None:
    """They say that there is nothing yet."""
    empty = render(path, facts=ClusterFacts(NOW), processes=ProcessFacts(NOW))
    assert re.search(r"There are no workloads yet|No |no ", text_of(empty))


@pytest.mark.parametrize("path", PATHS)
def test_links_keep_the_filters(path: str) -> None:
    """Those of the navigation."""
    page = render(path, Query(namespace="shop", refreshes=True))
    for other in PATHS:
        assert f"{other}?namespace=shop&refresh=30" in links_of(page)


def test_page_refreshes_itself_on_request_only() -> None:
    """A page that reloads while somebody reads it is hard to use."""
    assert "http-equiv" not in render("/")
    assert '<meta http-equiv="refresh" content="30"/>' in render("/", Query(refreshes=True))
    assert "/?refresh=30" in links_of(render("/"))
    assert "/workloads?page=2" in links_of(render("/workloads", Query(page=2, refreshes=True)))


@pytest.mark.parametrize("path", PATHS)
def test_hostile_names_are_text(path: str) -> None:
    """Names, messages, versions, labels of metrics and filters come from others."""
    rows = tuple(
        replace(row, pod=HOSTILE, class_name=HOSTILE, namespace=HOSTILE, node=HOSTILE)
        for row in volume("a", (HOSTILE, HOSTILE), problem=HOSTILE * 20)
    )
    classes = (
        ClassFacts(HOSTILE, HOSTILE, HOSTILE, (HOSTILE,)),
        ClassFacts("a", HOSTILE, problem=HOSTILE),
    )
    facts = ClusterFacts(NOW, (rows,), (), classes, (HOSTILE,))
    vault = HOSTILE.replace('"', '\\"')
    text = f'keyferry_vault_queue_depth{{vault="{vault}"}} 1\n'
    silent = Process(HOSTILE, HOSTILE, HOSTILE, problem=HOSTILE)
    processes = ProcessFacts(NOW, (process(text, HOSTILE, HOSTILE), silent), (HOSTILE,))
    for query in (Query(), Query(HOSTILE, HOSTILE, None, HOSTILE, HOSTILE)):
        page = render(path, query, facts, processes)
        assert "<script" not in page
        assert "\N{RIGHT-TO-LEFT OVERRIDE}" not in page
        assert not re.search(r"<[^>]*alert\(1\)[^>]*\"\s+'", page)
        assert "alert(1)" in page
        tags = {each.lower() for each in re.findall(r"<([a-zA-Z]+)", page)}
        assert not tags & {"script", "iframe", "img", "object", "embed", "base"}


def test_failed_read_says_what_to_do() -> None:
    """With the remedy of the error."""
    answer = SITE.error(Query(), "/", StoreError("cannot list <pods>", "Grant it."), NOW)
    assert 503 == answer.status
    assert "cannot list <pods> Grant it." in text_of(answer.body)
    assert "<pods>" not in answer.body
    assert 404 == SITE.not_found(Query(), NOW).status


def test_headers_permit_no_script_and_no_frame() -> None:
    """Only the style sheet of the page applies, by its hash."""
    found = headers("body{}")
    policy = found["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "script" not in policy
    assert "unsafe" not in policy
    assert ("no-store", "no-referrer", "DENY") == (
        found["Cache-Control"],
        found["Referrer-Policy"],
        found["X-Frame-Options"],
    )
    assert icon().body.startswith("<svg xmlns=")


@pytest.mark.parametrize(
    ("method", "host", "status"),
    [
        ("GET", "127.0.0.1:8090", None),
        ("HEAD", "localhost", None),
        ("GET", "LOCALHOST:1", None),
        ("GET", "[::1]:8090", None),
        ("POST", "localhost", 405),
        ("GET", "rebinding.example:8090", 421),
        ("GET", "localhost.example", 421),
        ("GET", "127.0.0.1.nip.io", 421),
        ("GET", "", 421),
    ],
)
def test_only_reads_under_a_local_name_are_served(
    method: str, host: str, status: int | None
) -> None:
    """So that no other site can read the page with a name of its own."""
    refused = refusal(method, host)
    assert status == (refused.status if refused else None)


def test_page_of_a_large_cluster_is_small() -> None:
    """Its length depends on the rows of a page, not on the cluster."""
    one = sync("s", {"id": "secret/x", "version": "1"})
    syncs = tuple(
        replace(one, ref=replace(one.ref, name=f"s-{number}", namespace=f"n-{number % 700}"))
        for number in range(2000)
    )
    facts = ClusterFacts(NOW, syncs=syncs)
    assert 100 == render("/workloads", facts=facts).count('<th scope="row"')
    page = render("/namespaces", facts=facts)
    assert 500 == page.count('<th scope="row"')
    assert "200 more are not shown" in text_of(page)
