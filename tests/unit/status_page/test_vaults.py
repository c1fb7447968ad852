"""`keyferry.status_page.vaults`: the state of vaults, from the metrics of processes."""

from __future__ import annotations

import pytest

from keyferry.resilience.fetcher import Fetcher
from keyferry.resilience.metrics import ResilienceMetrics
from keyferry.resilience.settings import ResilienceSettings
from keyferry.status_page.facts import Process
from keyferry.status_page.vaults import SAMPLE_NAMES, process_states, summarize_vaults
from keyferry.telemetry.exposition import parse_samples
from keyferry.telemetry.metrics import Metrics
from tests.fakes.status_page import CONTOSO, PARTNER, example_processes, exposition


def process(text: str, pod: str = "p", component: str = "driver") -> Process:
    return Process(component, pod, "node", parse_samples(text, SAMPLE_NAMES))


def test_metrics_of_all_processes_are_summed_up() -> None:
    """The fewest tokens and the longest backoff count; the rest is a sum."""
    found = {each.vault: each for each in summarize_vaults(example_processes().processes)}
    contoso, partner = found[CONTOSO], found[PARTNER]
    assert (2, 0, 0, 12, 14.2, 1486.5, 836) == (
        *(len(contoso.uses), contoso.circuits_open, contoso.queue, contoso.throttled),
        *(contoso.backoff, contoso.tokens, contoso.requests),
    )
    assert (1, 1, 4, 9) == (
        *(partner.circuits_open, partner.tenants_blocked, partner.queue, partner.failed),
    )
    assert 9000 / 9380 == contoso.hit_rate


def test_vaults_that_need_attention_come_first() -> None:
    """Then by name."""
    names = [each.vault for each in summarize_vaults(example_processes().processes)]
    assert [CONTOSO, PARTNER, "bao.internal.example:8200"] == names


def test_vault_without_object_requests_has_no_hit_rate() -> None:
    """As a token endpoint."""
    text = 'keyferry_vault_requests_total{vault="login",identity="x",outcome="answered"} 2\n'
    (found,) = summarize_vaults([process(text)])
    assert (None, None, 2) == (found.hit_rate, found.tokens, found.requests)


def test_processes_say_what_they_hold() -> None:
    """Those without an answer come first."""
    silent, *rest = process_states(example_processes().processes)
    assert "timed out after 2 seconds" == silent.process.problem
    assert [("keyferry-sync-7c9d-abcde", True)] == [
        (each.process.pod, each.leads) for each in rest if each.leads
    ]
    assert {96.5, None} == {each.oldest_content for each in rest}
    assert 2 == sum(each.expiring for each in rest)
    assert 0 == sum(each.expired for each in rest)


def test_infinite_limits_and_foreign_series_are_skipped() -> None:
    """A rate limit of 0 means no limit; a process may have any series."""
    text = (
        f'keyferry_vault_rate_limit_tokens{{vault="{CONTOSO}"}} +Inf\n'
        f'keyferry_vault_queue_depth{{vault="{CONTOSO}"}} NaN\n'
        f'keyferry_vault_backoff_seconds{{vault="{CONTOSO}"}} 0\n'
        "other{ 1\n"
    )
    (found,) = summarize_vaults([process(text)])
    assert (None, 0) == (found.tokens, found.queue)


def test_damaged_exposition_is_an_error() -> None:
    """Of a series that is read."""
    with pytest.raises(ValueError):  # noqa: PT011 - of a library
        parse_samples('keyferry_cache_bytes{a="b 1\n', SAMPLE_NAMES)


def test_label_values_are_unescaped() -> None:
    """A name with quotes stays one name."""
    text = 'keyferry_vault_queue_depth{vault="a\\"b\\\\c\\nd"} 1\n'
    (found,) = summarize_vaults([process(text)])
    assert 'a"b\\c\nd' == found.vault


def test_names_are_those_of_the_real_metrics() -> None:
    """Gauges and counters of a real registry are found."""
    metrics = Metrics()
    resilience = ResilienceMetrics(metrics.registry)
    Fetcher(ResilienceSettings(), metrics=resilience)
    resilience.count_request("v", "workload", "answered")
    resilience.count_object_request("v", "workload", "hit")
    (found,) = summarize_vaults([process(metrics.exposition().decode())])
    assert ("v", 1, 1.0) == (found.vault, found.requests, found.hit_rate)
    exported = {
        line.split()[2] for line in metrics.exposition().decode().splitlines() if line[0] == "#"
    }
    assert {"keyferry_cache_bytes", "keyferry_vault_queue_depth"} <= exported & {*SAMPLE_NAMES}
    assert "keyferry_cache_bytes" in exposition()
