"""The events that Keyferry records on pods. [pure]

Source: driver.md, section 4.9: the one reason, and the beginning of its text.
"""

from __future__ import annotations

from keyferry.errors import AuthorError, KeyferryError
from keyferry.store.interface import ClassObject, Event, EventType, PodRef

FAILED_TO_CREATE_SECRET = "FailedToCreateSecret"  # noqa: S105 - the reason of an event
MAX_MESSAGE = 1024
"""Characters; what Kubernetes accepts as the note of an event."""


def secret_failed(pod: PodRef, cls: ClassObject, secret_name: str, error: KeyferryError) -> Event:
    """The warning that the Secret `secret_name` of `cls` could not be made or kept for `pod`."""
    spc = f"spc {cls.namespace}/{cls.name}"
    if isinstance(error, AuthorError):
        message = f"failed to get data in {spc} for secret {secret_name}, err: {error}"
    else:
        message = f"failed to write secret {secret_name} of {spc}, err: {error}"
    return Event(pod, EventType.WARNING, FAILED_TO_CREATE_SECRET, _clipped(message))


def _clipped(message: str) -> str:
    return message if len(message) <= MAX_MESSAGE else f"{message[: MAX_MESSAGE - 3]}..."
