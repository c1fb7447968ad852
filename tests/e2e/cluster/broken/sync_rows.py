"""Broken SecretSyncs, which read a real OpenBao server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tests.e2e.cluster.broken.setup import (
    PASSWORD,
    SYNC_FAILS,
    UNAVAILABLE,
    VALUE,
    BrokenSetup,
    Category,
    Steps,
    vault,
)
from tests.e2e.cluster.broken.vault_rows import role_of_openbao
from tests.e2e.cluster.kubectl import Document
from tests.e2e.cluster.sync_installation import secret_sync

UNLISTED = "sync-unlisted"
"""A namespace that the controller may not use."""


def _account(*, allowed: bool = True) -> Document:
    labels = {"secret-sync.x-k8s.io/allowed": "true"} if allowed else {}
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "web", "labels": labels},
    }


def _sync(
    name: str,
    title: str,
    doctor: str,
    *,
    more: Sequence[Document] = (_account(),),
    spec: Mapping[str, Any] | None = None,
    parameters: Mapping[str, str] | None = None,
    objects: Sequence[Mapping[str, object]] | None = None,
    lint: tuple[str, ...] = (),
    prepare: Steps | None = None,
) -> BrokenSetup:
    sync = secret_sync("web", **{"secretObject": _OBJECT, **(spec or {})})
    is_sealed = (parameters or {}).get("vaultAddress") == "$SEALED"
    return vault(
        name, title, Category.SYNCS, doctor, more=[*more, sync], pods=[], lint=lint,
        parameters=parameters, objects=objects, target="secretsync/web", about="secretsync/web",
        reasons=("SecretSyncFailed",), prepare=prepare, varies=is_sealed,
        alerts=(SYNC_FAILS, UNAVAILABLE) if is_sealed else (SYNC_FAILS,),
    )  # fmt: skip


_OBJECT = {"type": "Opaque", "data": [{"sourcePath": "password", "targetKey": "password"}]}
_FOREIGN: Document = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "web"},
    "stringData": {"password": VALUE},
}

SYNC_ROWS = (
    _sync(UNLISTED, "The controller may not use the namespace", "secret"),
    _sync("sync-opt-in", "The service account does not permit SecretSyncs", "service-account",
          more=[_account(allowed=False)]),
    _sync("sync-account", "The service account of a SecretSync does not exist",
          "service-account", more=[]),
    _sync("sync-foreign", "Another Secret has the name of a SecretSync", "secret",
          more=[_account(), _FOREIGN]),
    _sync("sync-class", "The SecretProviderClass of a SecretSync does not exist", "class",
          spec={"secretProviderClassName": "wbe"}, lint=("class-not-found",)),
    _sync("sync-path", "sourcePath names a file that does not exist", "secret",
          lint=("sync-source",),
          spec={"secretObject": {"type": "Opaque",
                                 "data": [{"sourcePath": "db", "targetKey": "password"}]}}),
    _sync("sync-audience", "The controller may not request the audience", "secret",
          prepare=role_of_openbao, parameters={"audience": "openbao"}),
    _sync("sync-key", "The secret of a SecretSync has no such key", "object",
          objects=[{**PASSWORD, "secretKey": "pasword"}]),
    _sync("sync-sealed", "The vault of a SecretSync is sealed", "vault",
          parameters={"vaultAddress": "$SEALED"}),
)  # fmt: skip
