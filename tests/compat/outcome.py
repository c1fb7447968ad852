"""What a pod and its cluster see of one publish, in a form in which stacks can be compared."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from keyferry.kubernetes.live_secret import (
    CLASS_ANNOTATION,
    CLASS_VERSION_ANNOTATION,
    FETCHED_AT_ANNOTATION,
)
from keyferry.kubernetes.object_codec import EXPIRIES
from tests.compat.stacks import Stack
from tests.e2e.cluster.kubectl import Kubectl
from tests.e2e.node import Files, Volume, files_below

Documents = Mapping[str, Mapping[str, Any]]
"""Kubernetes objects by name, without what differs in any two clusters."""

KEYFERRY_ANNOTATIONS = {CLASS_ANNOTATION, CLASS_VERSION_ANNOTATION, FETCHED_AT_ANNOTATION}
"""By which nodes agree about a Secret; their values differ in any two clusters."""

STATUS_FIELDS = ("mounted", "objects", "podName", "secretProviderClassName", "targetPath")
"""Of a pod status, by upstream."""

STATUSES = "secretproviderclasspodstatuses"


@dataclass(frozen=True)
class Refusal:
    """How a call failed.

    Attributes:
        code: of gRPC.
        text: its message.
    """

    code: str
    text: str = field(compare=False)


@dataclass(frozen=True)
class Outcome:
    """All of it.

    Attributes:
        refusal: why the publish failed; None when it did not.
        files: mode and content by path.
        top: the names that a pod sees in the folder of the volume; None when nothing is mounted.
        status: the pod status, or None.
        secrets: the Kubernetes Secrets that the class asks for, by name.
        complaints: whether the pod got an event about a Secret.
    """

    refusal: Refusal | None = None
    files: Files = field(default_factory=dict)
    top: tuple[str, ...] | None = None
    status: Mapping[str, Any] | None = None
    secrets: Documents = field(default_factory=dict)
    complaints: bool = False

    def differences(self, other: Outcome) -> list[str]:
        """One line for each fact in which `other` differs, the values of files left out."""
        found = []
        for name in ("refusal", "top", "status", "complaints"):
            expected, actual = getattr(self, name), getattr(other, name)
            if expected != actual:
                found.append(f"{name}: {expected} != {actual}")
        for path in sorted(self.files.keys() | other.files.keys()):
            expected, actual = self.files.get(path), other.files.get(path)
            if expected != actual:
                found.append(f"file {path}: {_shown(expected)} != {_shown(actual)}")
        found += [
            f"Secret {name}: {self.secrets.get(name)} != {other.secrets.get(name)}"
            for name in sorted(self.secrets.keys() | other.secrets.keys())
            if self.secrets.get(name) != other.secrets.get(name)
        ]
        return found


def _shown(file: tuple[int, bytes] | None) -> str:
    return "absent" if file is None else f"mode {file[0]:04o}, {file[1][:400]!r}"


def seen_in_volume(volume: Volume) -> tuple[Files, tuple[str, ...] | None]:
    """The files of a volume, and the names at its top."""
    if not os.path.ismount(volume.path):
        return {}, None
    names = sorted(path.name for path in volume.path.iterdir())
    top = tuple(name for name in names if not name.startswith("..2"))  # a time-stamped folder
    if "..data" not in top:
        return {}, top
    return files_below(volume.path / (volume.path / "..data").readlink()), top


class ClusterView:
    """The objects of the namespace of one stack, as they were at one moment.

    Args:
        items: what the API lists.
        stack: whose namespace it is.
    """

    def __init__(self, items: list[Mapping[str, Any]], stack: Stack) -> None:
        self.items = items
        self._stack = stack
        self._uids = {
            item["metadata"]["uid"]: f"uid-of-{item['kind']}-{item['metadata']['name']}"
            for item in items
        }

    @classmethod
    async def take(cls, kubectl: Kubectl, stack: Stack) -> ClusterView:
        """Read everything."""
        listed = await kubectl.get(
            f"pods,secrets,{STATUSES},events", f"--namespace={stack.pairing.name}"
        )
        return cls(listed["items"], stack)

    def named(self, kind: str, name: str) -> Mapping[str, Any] | None:
        """One object without values that differ between clusters, or None."""
        for item in self.items:
            if item["kind"] == kind and item["metadata"]["name"] == name:
                return self._comparable(item)
        return None

    def complained(self, pod: str) -> bool:
        """Whether an event says that a Secret of that pod cannot be made."""
        return any(
            item["reason"] == "FailedToCreateSecret" and item["involvedObject"]["name"] == pod
            for item in self.items
            if item["kind"] == "Event"
        )

    def _comparable(self, item: Mapping[str, Any]) -> Mapping[str, Any]:
        metadata = {
            name: value
            for name, value in item["metadata"].items()
            if name
            not in ("uid", "resourceVersion", "creationTimestamp", "generation", "managedFields")
        }
        if annotations := metadata.get("annotations"):
            metadata["annotations"] = {
                name: "SET" if name in KEYFERRY_ANNOTATIONS else value
                for name, value in annotations.items()
            }
        document = {**item, "metadata": metadata}
        if item["kind"] == "SecretProviderClassPodStatus":
            # Of Keyferry's additions, test_over_time.py tests the fields.
            if set(metadata.get("annotations", {})) == {EXPIRIES}:
                del metadata["annotations"]
            document["status"] = {name: item["status"].get(name) for name in STATUS_FIELDS}
        text = json.dumps(document)
        for uid, name in self._uids.items():
            text = text.replace(uid, name)
        for found, name in (
            (str(self._stack.folder), "FOLDER"),
            (self._stack.pairing.name, "PAIRING"),
        ):
            text = text.replace(found, name)
        compared: Mapping[str, Any] = json.loads(text)
        return compared
