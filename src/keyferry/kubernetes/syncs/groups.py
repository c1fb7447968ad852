"""The API groups that serve SecretSyncs. [pure]"""

from __future__ import annotations

import re

from msgspec import Struct

from keyferry.errors import SettingInvalidError, excerpt
from keyferry.kubernetes.names import object_name_problem

SYNC_KIND = "SecretSync"
SYNC_PLURAL = "secretsyncs"
_VERSION = re.compile(r"v[1-9][0-9]{0,5}((alpha|beta)[1-9][0-9]{0,5})?")


class SyncGroup(Struct, frozen=True):
    """An API group and version that serves SecretSyncs."""

    group: str
    version: str

    def __str__(self) -> str:
        """Return the apiVersion: `secret-sync.x-k8s.io/v1alpha1`."""
        return f"{self.group}/{self.version}"

    @classmethod
    def parse(cls, text: str) -> SyncGroup:
        """Return the group of an apiVersion.

        Raises:
            SettingInvalidError: the text is not `GROUP/VERSION`.
        """
        group, _, version = text.strip().partition("/")
        if object_name_problem(group) or not _VERSION.fullmatch(version):
            problem = f"{excerpt(text)!r} is not an API group and version"
            raise SettingInvalidError(problem, f"Write it as in {UPSTREAM_GROUP}.")
        return cls(group, version)

    @property
    def resource(self) -> str:
        """The plural with the group, as in RBAC."""
        return f"{SYNC_PLURAL}.{self.group}"


UPSTREAM_GROUP = SyncGroup("secret-sync.x-k8s.io", "v1alpha1")
GKE_GROUP = SyncGroup("secret-sync.gke.io", "v1")
