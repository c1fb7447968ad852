"""What the path that kubelet gives a volume tells of it. [pure]"""

from __future__ import annotations

import re
from dataclasses import dataclass

_TARGET = re.compile(r"/pods/(?P<uid>[^/]+)/volumes/kubernetes\.io~csi/(?P<volume>[^/]+)/mount$")


@dataclass(frozen=True, slots=True)
class VolumePath:
    """Whose volume is at a path of kubelet.

    Attributes:
        pod_uid: of the pod, which no other pod ever has.
        volume: its name in the pod.
    """

    pod_uid: str
    volume: str


def volume_path(target_path: str) -> VolumePath | None:
    """What `target_path` tells; None when it is not in the folder of a pod."""
    match = _TARGET.search(target_path)
    return None if match is None else VolumePath(match["uid"], match["volume"])
