"""What the path that kubelet gives a volume tells of it. [pure]"""

from __future__ import annotations

import re
from dataclasses import dataclass

_KUBELET_TARGET = re.compile(
    r"/pods/(?P<uid>[^/]+)/volumes/kubernetes\.io~csi/(?P<volume>[^/]+)/mount$"
)


@dataclass(frozen=True, slots=True)
class VolumePath:
    """Whose volume is at a path of kubelet.

    Attributes:
        pod_uid: of the pod, which no other pod ever has.
        volume_name: its name in the pod.
    """

    pod_uid: str
    volume_name: str


def parse_volume_path(target_path: str) -> VolumePath | None:
    """What `target_path` tells; None when it is not in the folder of a pod."""
    match = _KUBELET_TARGET.search(target_path)
    return None if match is None else VolumePath(match["uid"], match["volume"])
