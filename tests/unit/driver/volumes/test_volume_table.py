"""keyferry.driver.volumes.volume_table: age of content, and entries that failed calls put back."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime

import pytest

from keyferry.driver.volumes.volume_table import Volume, VolumeTable
from keyferry.kubernetes.objects import OwnerReference, PodRef
from keyferry.records import replace

TARGET = "/pods/uid-0/mount"
VOLUME = Volume(TARGET, PodRef("shop", "web-0", "uid-0"), "web", datetime.now(UTC))
OWNER = OwnerReference("v1", "SecretProviderClassPodStatus", "web-0-shop-web", "uid-of-status")


def table() -> VolumeTable:
    """Return a table with one volume that no publish of this process has completed."""
    volumes = VolumeTable()
    volumes.put(VOLUME)
    return volumes


def publish(volumes: VolumeTable, fetch_started: float) -> None:
    with volumes.publishing(VOLUME, fetch_started=fetch_started):
        pass


def fetched_monotonic(volumes: VolumeTable) -> float | None:
    volume = volumes.get(TARGET)
    assert volume is not None
    return volume.fetched_monotonic


def test_content_is_as_old_as_the_start_of_its_fetch() -> None:
    """A change in the vault during a slow fetch may be missing in the result."""
    volumes = table()
    assert fetched_monotonic(volumes) is None
    publish(volumes, 10.0)
    assert 10.0 == fetched_monotonic(volumes)


def test_publish_that_started_before_an_invalidation_leaves_the_volume_due() -> None:
    """The next publish makes it fresh."""
    volumes = table()
    publish(volumes, 10.0)
    volumes.invalidate(TARGET, 20.0)
    publish(volumes, 19.0)
    assert fetched_monotonic(volumes) is None
    publish(volumes, 20.0)
    assert 20.0 == fetched_monotonic(volumes)


def test_removed_volume_leaves_no_invalidation_for_the_next_one_at_its_path() -> None:
    """The clock is monotonic, but the table must not grow."""
    volumes = table()
    volumes.invalidate(TARGET, 20.0)
    volumes.drop(TARGET)
    publish(volumes, 15.0)
    assert 15.0 == fetched_monotonic(volumes)


@pytest.mark.parametrize("entries", [[], [VOLUME]])
def test_failed_publish_restores_the_earlier_entry(entries: list[Volume]) -> None:
    """Without an earlier entry, the volume is removed."""
    volumes = VolumeTable()
    for entry in entries:
        volumes.put(entry)
    with suppress(InterruptedError), volumes.publishing(VOLUME, fetch_started=10.0) as current:
        assert [current] == list(volumes)
        raise InterruptedError
    assert entries == list(volumes)


def test_published_volume_keeps_its_owner() -> None:
    """Also an owner that becomes known during the publish."""
    volumes = table()
    with volumes.publishing(VOLUME, fetch_started=10.0):
        volumes.set_owner(TARGET, OWNER)
    publish(volumes, 20.0)
    volume = volumes.get(TARGET)
    assert volume is not None
    assert OWNER == volume.owner


def test_failed_removal_restores_the_entry() -> None:
    """The volume is still mounted."""
    volumes = table()
    with suppress(OSError), volumes.removing(TARGET) as removed:
        assert VOLUME == removed
        assert [] == list(volumes)
        raise OSError
    assert [VOLUME] == list(volumes)
    with volumes.removing(TARGET):
        pass
    assert [] == list(volumes)


def test_secret_is_known_while_a_volume_names_it() -> None:
    """However often the entries of its volumes are replaced."""
    volumes = VolumeTable()
    for target in ("/a", "/b"):
        volumes.put(replace(VOLUME, target_path=target, secret_names=frozenset({"db"})))
    volumes.set_secret_names("/a", frozenset({"db", "tls"}))
    assert {("shop", "db"), ("shop", "tls")} == volumes.secret_keys()
    volumes.set_secret_names("/a", frozenset({"tls"}))
    volumes.drop("/b")
    assert {("shop", "tls")} == volumes.secret_keys()
    with volumes.removing("/a"):
        assert set() == volumes.secret_keys()
    volumes.drop("/a")
    assert set() == volumes.secret_keys()
