"""What a watch of the Kubernetes API reports. [pure]"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from keyferry.kubernetes.object_codec import Manifest

ANY_VERSION = "0"
"""Any state that the watch cache of the API server has; no read from etcd."""
LATEST_VERSION = ""
"""The latest state, which a server before 1.31 reads from etcd."""


class Resume(Struct, frozen=True):
    """Continues a watch.

    Attributes:
        version: changes after this resourceVersion are reported.
    """

    version: str


class ListFirst(Struct, frozen=True):
    """Reports all objects, then changes.

    Attributes:
        not_older_than: the state that is listed has this resourceVersion or a later one, so that
            it never goes back in time; or `ANY_VERSION`, or `LATEST_VERSION`.
    """

    not_older_than: str


WatchStart = Resume | ListFirst


class Began(Struct, frozen=True):
    """The API server has accepted the request.

    If a list failed halfway, another one begins; what was reported of the first does not count.
    """


class Changed(Struct, frozen=True):
    """An object exists, was created or changed; it is now `manifest`."""

    manifest: Manifest


class Removed(Struct, frozen=True):
    """An object was deleted, or is no longer selected; `manifest` is its last state."""

    manifest: Manifest


class Progress(Struct, frozen=True):
    """All changes up to a resourceVersion have been reported.

    Attributes:
        version: the resourceVersion of a bookmark, or of a list.
        ends_list: all objects have been reported.
    """

    version: str
    ends_list: bool = False


class Expired(Struct, frozen=True):
    """The API server no longer has the changes after the resourceVersion; list again."""


Change = Began | Changed | Removed | Progress | Expired
