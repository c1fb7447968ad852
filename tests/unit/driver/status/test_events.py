"""The events on pods."""

import pytest

from keyferry.driver.status.events import secret_failed
from keyferry.errors import KeyferryError, ObjectNamesError, SecretDataError, StoreError
from keyferry.kubernetes.objects import MAX_MESSAGE, Event, EventType, PodRef, SecretProviderClass

POD = PodRef("shop", "web-0", "uid")
CLASS = SecretProviderClass("shop", "web", "azure", {})


@pytest.mark.parametrize("kind", [ObjectNamesError, SecretDataError])
def test_failed_secret_data_starts_with_the_message_of_upstream(kind: type[KeyferryError]) -> None:
    """It names SecretProviderClass and Secret, and ends with the remedy."""
    assert Event(
        POD,
        EventType.WARNING,
        "FailedToCreateSecret",
        "failed to get data in spc shop/web for secret db, err: It is so. Do this.",
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
