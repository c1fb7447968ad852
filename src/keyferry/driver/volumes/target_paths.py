"""Parses the target paths that kubelet gives to volumes. [pure]"""

from __future__ import annotations

import re

from msgspec import Struct

_KUBELET_TARGET = re.compile(
    r"/pods/(?P<uid>[^/]+)/volumes/kubernetes\.io~csi/(?P<volume>[^/]+)/mount$"
)


class VolumePath(Struct, frozen=True):
    """A target path of kubelet.

    Attributes:
        pod_uid: the uid of the pod; never reused for another pod.
        volume_name: the name of the volume in the pod.
    """

    pod_uid: str
    volume_name: str


def parse_volume_path(target_path: str) -> VolumePath | None:
    """Parse `target_path`; None when it is not in kubelet's folder of a pod."""
    match = _KUBELET_TARGET.search(target_path)
    return None if match is None else VolumePath(match["uid"], match["volume"])
