"""The call to the provider for a SecretSync."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from keyferry.content import ObjectVersion
from keyferry.kubernetes.syncs.objects import SyncedObject, SyncStatus
from keyferry.providers.api import MountCall
from keyferry.resilience.call_context import Purpose
from keyferry.sync_controller.rules.request import (
    Credentials,
    Token,
    as_upstream,
    mount_call,
    target_path_of,
    uid_of,
)
from tests.fakes.secret_syncs import POD, secret_sync, sync_class
from tests.fakes.syncs import UID

NO_CREDENTIALS = Credentials({}, None)
EXPIRY = datetime(2030, 1, 1, 12, 10, tzinfo=UTC)
TOKENS = {
    "vault": Token("canary-2", EXPIRY, 600),
    "api://AzureADTokenExchange": Token("canary-1", EXPIRY, 600),
}
KUBELET = "csi.storage.k8s.io/"


def call(credentials: Credentials = NO_CREDENTIALS, **changes: Any) -> MountCall:
    arguments = {"sync": secret_sync(), "spc": sync_class(), **changes}
    sync, spc = arguments.pop("sync"), arguments.pop("spc")
    return mount_call(sync, spc, credentials, **arguments)


def test_built_in_provider_knows_the_secret_sync() -> None:
    """Its dynamic secrets and its cached content are its own."""
    made = call()
    assert made.attributes == {
        "objects": "some",
        "secretProviderClass": "vault",
        f"{KUBELET}pod.name": "web",
        f"{KUBELET}pod.namespace": "shop",
        f"{KUBELET}pod.uid": UID,
        f"{KUBELET}serviceAccount.name": "web",
    }
    assert made.target_path == target_path_of(UID) == f"/secretsyncs/{UID}"
    assert uid_of(made.target_path) == UID
    assert made.secrets is None


def test_external_provider_is_called_as_by_upstream() -> None:
    """The pod is that of the controller, and the Secret with credentials is empty."""
    made = as_upstream(call(pod=POD, sync=secret_sync(status=synced())))
    assert made.attributes == {
        "objects": "some",
        f"{KUBELET}pod.name": "keyferry-sync-0",
        f"{KUBELET}pod.namespace": "shop",
        f"{KUBELET}pod.uid": "pod-uid",
        f"{KUBELET}serviceAccount.name": "web",
    }
    assert made.target_path == "/mnt/secrets-store"
    assert made.secrets == {}
    assert made.current_versions == ()


def test_credentials_are_passed_on() -> None:
    """To both kinds of providers."""
    credentials = Credentials({}, {"clientsecret": "canary"})
    assert call(credentials).secrets == {"clientsecret": "canary"}
    assert call(credentials, pod=POD).secrets == {"clientsecret": "canary"}
    assert call(Credentials({}, {})).secrets == {}
    assert "canary" not in repr(credentials)


def test_tokens_are_those_of_kubelet() -> None:
    """JSON by audience, with the expiry of the API server."""
    made = call(Credentials(TOKENS, None))
    assert json.loads(made.attributes[f"{KUBELET}serviceAccount.tokens"]) == {
        "api://AzureADTokenExchange": {
            "token": "canary-1",
            "expirationTimestamp": "2030-01-01T12:10:00Z",
        },
        "vault": {"token": "canary-2", "expirationTimestamp": "2030-01-01T12:10:00Z"},
    }
    assert "canary" not in repr(TOKENS)


def test_class_cannot_name_another_identity() -> None:
    """Else its author could read what another service account may read."""
    names = ("serviceAccount.name", "serviceAccount.tokens", "pod.namespace", "ephemeral")
    parameters = {f"{KUBELET}{name}": "other" for name in names}
    made = call(spc=sync_class(parameters={"objects": "some", **parameters}))
    assert made.attributes == call().attributes
    assert "other" not in made.attributes.values()


def synced() -> SyncStatus:
    return SyncStatus(sync_hash="kf1:x", objects=(SyncedObject("secret/a", "1", EXPIRY),))


def test_first_sync_has_priority() -> None:
    """Somebody waits for the Secret; a refresh has one already."""
    first = call()
    assert (Purpose.FIRST, ()) == (first.purpose, first.current_versions)
    refresh = call(sync=secret_sync(status=synced()))
    assert Purpose.REFRESH is refresh.purpose
    assert (ObjectVersion("secret/a", "1"),) == refresh.current_versions
