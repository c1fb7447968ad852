"""How the commands mark the Secrets that they write. [pure]"""

from __future__ import annotations

from msgspec import Struct

FIELD_MANAGER = "keyferry"
"""The field manager of server-side apply."""
MANAGED_LABEL = "secrets-store.csi.k8s.io/managed"
SYNC_LABEL = "secrets-store.sync.x-k8s.io"
"""The label of the Secrets of SecretSyncs; its value is empty."""
SYNC_FIELD_MANAGER = "secrets-store-sync-controller"
"""That of upstream's sync controller, so that a move in either direction has no conflict."""


class Marking(Struct, frozen=True):
    """How a command marks the Secrets that it writes.

    Attributes:
        field_manager: of server-side apply.
        label: the key of its label.
        label_value: the value.
        former_managers: field managers of earlier versions, whose fields are taken over.
    """

    field_manager: str
    label: str
    label_value: str
    former_managers: frozenset[str] = frozenset()


DRIVER_MARKING = Marking(FIELD_MANAGER, MANAGED_LABEL, "true")
SYNC_MARKING = Marking(SYNC_FIELD_MANAGER, SYNC_LABEL, "", frozenset({f"v1-{SYNC_FIELD_MANAGER}"}))
