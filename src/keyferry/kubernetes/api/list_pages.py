"""What lists of the Kubernetes API ask for and answer. [pure]"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keyferry.kubernetes.object_codec import Manifest


class PageMetadata(msgspec.Struct):
    """Where a list continues.

    Attributes:
        resource_version: of the list.
        token: of the next page; "" after the last one.
        remaining: the number of objects in further pages.
    """

    resource_version: str = msgspec.field(name="resourceVersion")
    token: str = msgspec.field(name="continue", default="")
    remaining: int = msgspec.field(name="remainingItemCount", default=0)


class PageDocument(msgspec.Struct):
    """A page of a list.

    lightkube refuses the null with which the API answers for an empty list of metadata.
    """

    metadata: PageMetadata
    items: list[Any] | None


class Page(msgspec.Struct, frozen=True):
    """A page of a list, or all of it.

    Attributes:
        objects: the manifests.
        version: the resourceVersion of the list; a watch continues from it.
    """

    objects: tuple[Manifest, ...]
    version: str


def selection(labels: Mapping[str, str | None], fields: Mapping[str, str]) -> dict[str, str | None]:
    """Return the query parameters that select objects.

    Args:
        labels: with their values; None for any value.
        fields: with their values.
    """
    return {"labelSelector": _selector(labels), "fieldSelector": _selector(fields)}


def _selector(wanted: Mapping[str, str | None] | Mapping[str, str]) -> str | None:
    terms = (key if value is None else f"{key}={value}" for key, value in wanted.items())
    return ",".join(terms) or None
