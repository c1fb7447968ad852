"""The events on pods."""

from pathlib import Path

import pytest

from keyferry.driver.status.events import secret_failed
from keyferry.errors import KeyferryError, ObjectNamesError, SecretDataError, StoreError
from keyferry.kubernetes.objects import MAX_MESSAGE, Event, EventType, PodRef, SecretProviderClass

POD = PodRef("shop", "web-0", "uid")
CLASS = SecretProviderClass("shop", "web", "azure", {})
SOURCE = Path(__file__).parents[4] / "src" / "keyferry"
FORMATS_TIMES = {
    "doctor/facts.py": "facts of keyferry doctor, which no event has",
    "cli/local/mounting.py": "prints to a terminal",
    "driver/volumes/atomic_writer.py": "names a folder",
    "kubernetes/object_codec.py": "fields of manifests",
    "kubernetes/syncs/codec.py": "fields of a status",
    "kubernetes/syncs/lease.py": "fields of a Lease",
    "providers/expiry.py": "the date of an expiry, which repeats unchanged",
    "resilience/limits/host_limiter.py": "the detail of an error, which is no part of an event",
    "telemetry/logs.py": "the time of a log line",
}
"""Modules that write a time as text, and why it makes no event differ from the one before it."""


@pytest.mark.parametrize("kind", [ObjectNamesError, SecretDataError])
def test_failed_secret_data_starts_with_the_message_of_upstream(kind: type[KeyferryError]) -> None:
    """It names SecretProviderClass and Secret, and ends with the remedy."""
    assert Event(
        POD,
        EventType.WARNING,
        "FailedToCreateSecret",
        "failed to get data in spc shop/web for secret db, err: It is so. Do this.",
        "db",
    ) == secret_failed(POD, CLASS, "db", kind("It is so", "Do this."))


def test_failed_secret_write_has_another_message() -> None:
    """The data is not the problem."""
    event = secret_failed(POD, CLASS, "db", StoreError("the disk is full"))

    assert "failed to write secret db of spc shop/web, err: the disk is full" == event.message


def test_long_event_message_is_truncated() -> None:
    """Kubernetes rejects longer messages."""
    event = secret_failed(POD, CLASS, "db", SecretDataError("x" * 5000))

    assert MAX_MESSAGE == len(event.message)
    assert event.message.endswith("x...")


def test_no_other_module_writes_times() -> None:
    """A time in the message of an error makes each event a new object in etcd."""
    found = {
        str(path.relative_to(SOURCE)) for path in SOURCE.rglob("*.py") if "%H" in path.read_text()
    }
    assert set(FORMATS_TIMES) == found


def test_detail_of_an_error_is_no_part_of_an_event() -> None:
    error = StoreError("the disk is full", "Free some space.")
    before = secret_failed(POD, CLASS, "db", error)
    error.add_detail("4 tries")
    error.add_detail("since 12:00:00 UTC")
    assert before == secret_failed(POD, CLASS, "db", error)
    assert "4 tries, since 12:00:00 UTC" == error.log_pairs()["detail"]
