"""keyferry.cli.flags.resilience: the settings of the flags."""

from __future__ import annotations

import pytest

from keyferry.cli.flags.go_flags import parse_flags
from keyferry.cli.flags.resilience import RESILIENCE_FLAGS, resilience_settings
from keyferry.errors import PlatformError
from keyferry.resilience.settings import ResilienceSettings


def settings_of(*arguments: str) -> ResilienceSettings:
    return resilience_settings(parse_flags(arguments, RESILIENCE_FLAGS))


def test_defaults_are_those_of_the_settings() -> None:
    """The help shows the same defaults."""
    assert ResilienceSettings() == settings_of()


def test_each_flag_sets_its_setting() -> None:
    """With its own unit."""
    expected = ResilienceSettings(
        cache_ttl=1.0,
        negative_cache_ttl=0.5,
        cache_max_bytes=7,
        list_revalidation=False,
        qps=8,
        burst=9,
        max_concurrency=10,
    )
    assert expected == settings_of(
        "--cache-ttl=1s",
        "--negative-cache-ttl=500ms",
        "--cache-max-bytes=7",
        "--list-revalidation=false",
        "--vault-qps=8",
        "--vault-burst=9",
        "--vault-max-concurrency=10",
    )


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("--cache-ttl=-1s", "--cache-ttl is -1. Set it to 0 or more"),
        ("--negative-cache-ttl=-1s", "--negative-cache-ttl is -1. Set it to 0 or more"),
        ("--vault-qps=-1", "--vault-qps is -1. Set it to 0 or more"),
        ("--vault-burst=0", "--vault-burst is 0. Set it to 1 or more"),
        ("--vault-max-concurrency=0", "--vault-max-concurrency is 0. Set it to 1 or more"),
    ],
)
def test_number_below_the_minimum_is_rejected(argument: str, words: str) -> None:
    """With the least that it may be."""
    with pytest.raises(PlatformError) as caught:
        settings_of(argument)
    assert words in str(caught.value)
