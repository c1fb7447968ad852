"""keyferry.driver.volumes.volume_table: how old the content of a volume is."""

from __future__ import annotations

from datetime import UTC, datetime

from keyferry.driver.volumes.volume_table import Volume, VolumeTable
from keyferry.kubernetes.objects import PodRef

TARGET = "/pods/uid-0/mount"


def table() -> VolumeTable:
    """One volume, of which no publish has ended."""
    volumes = VolumeTable()
    volumes.put(Volume(TARGET, PodRef("shop", "web-0", "uid-0"), "web", datetime.now(UTC)))
    return volumes


def fetched(volumes: VolumeTable) -> float | None:
    """When its content was asked for, as far as the table knows."""
    volume = volumes.get(TARGET)
    assert volume is not None
    return volume.fetched_monotonic


def test_content_is_as_old_as_the_beginning_of_its_publish() -> None:
    """What changed while a slow provider was answering may not be in it."""
    volumes = table()
    assert fetched(volumes) is None
    volumes.mark_published(TARGET, 10.0)
    assert 10.0 == fetched(volumes)


def test_a_publish_that_began_before_the_class_changed_brings_nothing_fresh() -> None:
    """The next one does."""
    volumes = table()
    volumes.mark_published(TARGET, 10.0)
    volumes.invalidate(TARGET, 20.0)
    volumes.mark_published(TARGET, 19.0)
    assert fetched(volumes) is None
    volumes.mark_published(TARGET, 20.0)
    assert 20.0 == fetched(volumes)


def test_a_volume_that_went_leaves_no_mark_for_the_next_at_its_path() -> None:
    """Clocks only go on, but a table should not grow."""
    volumes = table()
    volumes.invalidate(TARGET, 20.0)
    volumes.drop(TARGET)
    volumes.mark_published(TARGET, 30.0)
    assert volumes.get(TARGET) is None
    volumes.put(Volume(TARGET, PodRef("shop", "web-1", "uid-1"), "web", datetime.now(UTC)))
    volumes.mark_published(TARGET, 15.0)
    assert 15.0 == fetched(volumes)
