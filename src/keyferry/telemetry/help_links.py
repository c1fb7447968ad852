"""Links of Kubernetes events to the page about their symptom. [pure]

A person who sees a problem in `kubectl describe` has its event, and nothing else of Keyferry. Texts
of gRPC errors, which kubelet repeats, stay as they are in upstream.

Source: docs/adr/0021-events-link-to-their-symptom.md
"""

from __future__ import annotations

from enum import Enum

from msgspec import Struct

DEFAULT_HELP_URL = (
    "https://github.com/keyferry/keyferry/blob/v{version}/docs/operations/troubleshooting.md"
)
"""The page in the documentation of this version."""


class Symptom(Enum):
    """What a person sees, in the order of the page. The values are anchors and never change."""

    POD_DOES_NOT_START = "the-pod-does-not-start"
    SECRET_IS_MISSING = "the-secret-is-missing"  # noqa: S105 - an anchor
    FILE_IS_MISSING = "a-file-is-missing"
    CONTENT_IS_OLD = "the-content-is-old"
    VARIABLE_IS_OLD = "an-environment-variable-is-old"
    OBJECT_EXPIRES = "an-object-expires"
    FIELD_HAS_NO_EFFECT = "a-field-has-no-effect"
    SYNC_IS_NOT_READY = "a-secretsync-is-not-ready"
    POD_STATUS_IS_MISSING = "the-pod-status-is-missing"
    POD_STAYS_IN_TERMINATING = "a-pod-stays-in-terminating"
    DRIVER_IS_NOT_READY = "the-drivers-pod-is-not-ready"
    CONTROLLER_DOES_NOT_WORK = "the-secretsync-controller-does-not-work"
    ON_A_LAPTOP = "a-command-fails-on-a-laptop"


SYMPTOM_OF_EVENT = {
    "FailedToMountObjects": Symptom.POD_DOES_NOT_START,
    "FailedToCreateSecret": Symptom.SECRET_IS_MISSING,
    "SecretConflict": Symptom.SECRET_IS_MISSING,
    "SecretAdopted": Symptom.SECRET_IS_MISSING,
    "ObjectMissing": Symptom.FILE_IS_MISSING,
    "SecretMissingOptional": Symptom.FILE_IS_MISSING,
    "MountRotationFailed": Symptom.CONTENT_IS_OLD,
    "StaleContentMounted": Symptom.CONTENT_IS_OLD,
    "ObjectNearExpiry": Symptom.OBJECT_EXPIRES,
    "UnknownField": Symptom.FIELD_HAS_NO_EFFECT,
    "InvalidAnnotation": Symptom.FIELD_HAS_NO_EFFECT,
    "SecretSyncFailed": Symptom.SYNC_IS_NOT_READY,
    "SecretClaimed": Symptom.SYNC_IS_NOT_READY,
    "FailedToWritePodStatus": Symptom.POD_STATUS_IS_MISSING,
}
"""By the reason of the event. Only warnings have a link."""


class HelpLinks(Struct, frozen=True):
    """Adds links to the messages of events.

    Args:
        url: the address of the page, without an anchor; "" for no links.
    """

    url: str = ""

    def linked(self, message: str, *, reason: str, limit: int) -> str:
        """Return the message of a warning with its link, in at most `limit` characters.

        Args:
            message: the message.
            reason: the reason of the event.
            limit: characters; a message that is too long is cut, and keeps its link.
        """
        symptom = SYMPTOM_OF_EVENT.get(reason)
        if not self.url or symptom is None:
            return message
        link = f"See {self.url}#{symptom.value}"
        link = f" {link}" if message.endswith((".", "!", "?")) else f". {link}"
        room = limit - len(link)
        if len(message) > room:
            message, link = f"{message[: room - 2]}...", link.removeprefix(".")
        return f"{message}{link}"


NO_LINKS = HelpLinks()
