"""Objects to write, and what the folder of a store of manifests holds of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import yaml

from keyferry.content import ObjectVersion
from keyferry.kubernetes.objects import (
    DesiredSecret,
    Event,
    EventType,
    OwnerReference,
    PodRef,
    PodStatus,
)
from tests.fakes.clock import ManualClock

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
POD = PodRef("shop", "web-0", "0b5c-uid")
STATUS = PodStatus(
    namespace="shop",
    name="web-0-shop-web",
    pod=POD,
    class_name="web",
    target_path="/pods/1/mount",
    node="node-1",
    objects=(ObjectVersion("secret/a", "v1"), ObjectVersion("secret/b", "")),
)
SECRET = DesiredSecret(
    namespace="shop",
    name="db",
    type="Opaque",
    data={"password": b"canary\xff\n", "user": b""},
    labels={"environment": "test"},
    annotations={"note": "yes"},
    owners=(),
)
DEPLOYMENT = OwnerReference("apps/v1", "ReplicaSet", "web-5d8", "rs-uid")


class SteppingClock(ManualClock):
    """Shows noon when it is first read, and a minute later each time."""

    def wall(self) -> datetime:
        shown = NOON + timedelta(seconds=self.now)
        self.now += 60.0
        return shown


def read(path: Path) -> object:
    return yaml.safe_load(path.read_text())


def everything(out: Path) -> list[str]:
    return sorted(str(path.relative_to(out)) for path in out.rglob("*"))


def event(message: str = "it failed", reason: str = "FailedToCreateSecret") -> Event:
    return Event(POD, EventType.WARNING, reason, message)
