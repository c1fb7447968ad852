"""The events on pods."""

import pytest

from keyferry.driver.status.events import secret_failed
from keyferry.errors import KeyferryError, ObjectNamesError, SecretDataError, StoreError
from keyferry.kubernetes.objects import MAX_MESSAGE, Event, EventType, PodRef, SecretProviderClass

POD = PodRef("shop", "web-0", "uid")
CLASS = SecretProviderClass("shop", "web", "azure", {})


@pytest.mark.parametrize("kind", [ObjectNamesError, SecretDataError])
def test_data_that_cannot_be_made_begins_as_upstream(kind: type[KeyferryError]) -> None:
    """Class and Secret are named in the words that people search for; the remedy is told."""
    assert Event(
        POD,
        EventType.WARNING,
        "FailedToCreateSecret",
        "failed to get data in spc shop/web for secret db, err: It is so. Do this.",
    ) == secret_failed(POD, CLASS, "db", kind("It is so", "Do this."))


def test_a_secret_that_cannot_be_written_is_told_apart() -> None:
    """When the store refuses, the data are not the problem."""
    event = secret_failed(POD, CLASS, "db", StoreError("the disk is full"))

    assert "failed to write secret db of spc shop/web, err: the disk is full" == event.message


def test_a_long_message_is_cut() -> None:
    """Kubernetes refuses an event whose text is too long, and then nobody would see it."""
    event = secret_failed(POD, CLASS, "db", SecretDataError("x" * 5000))

    assert MAX_MESSAGE == len(event.message)
    assert event.message.endswith("x...")
