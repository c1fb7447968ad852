"""The call of a refresh without kubelet."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from keyferry.driver.request import PublishRequest
from keyferry.driver.rotation.republish import has_expired_token, rebuild_request
from keyferry.driver.rotation.restore import csi_volume_at
from keyferry.driver.volumes.volume_table import Volume
from keyferry.kubernetes.objects import CsiVolume, Pod, PodRef

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
DRIVER = "secrets-store.csi.k8s.io"
TARGET = "/var/lib/kubelet/pods/uid-0/volumes/kubernetes.io~csi/secrets/mount"
ATTRIBUTES = {
    "secretProviderClass": "web",
    "own": "x",
    "csi.storage.k8s.io/serviceAccount.tokens": "forged by the author of the pod",
}
CSI = CsiVolume("secrets", DRIVER, ATTRIBUTES, "creds")
POD = Pod("shop", "web-0", "uid-0", service_account="sa", volumes=(CSI,))
VOLUME = Volume(TARGET, PodRef("shop", "web-0", "uid-0"), "web", NOW)


def request(tokens: str, *, in_secrets: bool = False) -> PublishRequest:
    """A call with these tokens."""
    given = {"csi.storage.k8s.io/serviceAccount.tokens": tokens}
    nothing: dict[str, str] = {}
    return PublishRequest(
        target_path=TARGET,
        readonly=True,
        pod=VOLUME.pod,
        class_name="web",
        context=nothing if in_secrets else given,
        secrets=given if in_secrets else nothing,
    )


def test_rebuilt_request_equals_that_of_kubelet() -> None:
    """Except for tokens and secrets, which only kubelet has."""
    rebuilt = rebuild_request(VOLUME, POD, CSI)
    assert (TARGET, True, "web", {}) == (
        rebuilt.target_path,
        rebuilt.readonly,
        rebuilt.class_name,
        rebuilt.secrets,
    )
    assert {
        "secretProviderClass": "web",
        "own": "x",
        "csi.storage.k8s.io/pod.name": "web-0",
        "csi.storage.k8s.io/pod.namespace": "shop",
        "csi.storage.k8s.io/pod.uid": "uid-0",
        "csi.storage.k8s.io/serviceAccount.name": "sa",
        "csi.storage.k8s.io/ephemeral": "true",
    } == rebuilt.context


@pytest.mark.parametrize("in_secrets", [False, True])
@pytest.mark.parametrize(("seconds", "ended"), [(-1, True), (29, True), (31, False)])
def test_token_expires_with_a_margin(seconds: int, ended: bool, in_secrets: bool) -> None:
    """Of half a minute: the vault checks it later, by its own clock."""
    end = (NOW + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
    tokens = {
        "aud1": {"token": "canary", "expirationTimestamp": "2040-01-01T00:00:00Z"},
        "aud2": {"token": "canary", "expirationTimestamp": end},
    }
    assert ended is has_expired_token(request(json.dumps(tokens), in_secrets=in_secrets), NOW)


@pytest.mark.parametrize(
    "tokens", ["", "{", '{"aud": {"expirationTimestamp": "soon"}}', '{"aud": {}}']
)
def test_tokens_without_expiry_count_as_valid(tokens: str) -> None:
    """The provider reports what is wrong with them."""
    assert not has_expired_token(request(tokens), NOW)


@pytest.mark.parametrize(
    ("target", "class_name"),
    [
        (TARGET.replace("uid-0", "uid-1"), "web"),
        (TARGET.replace("secrets", "other"), "web"),
        (TARGET + "/more", "web"),
        (TARGET.replace("kubernetes.io~csi", "kubernetes.io~secret"), "web"),
        ("/var/lib/kubelet/pods/uid-0", "web"),
        (TARGET, "other"),
    ],
)
def test_volume_must_match_pod_name_and_secret_provider_class(target: str, class_name: str) -> None:
    """The uid of the pod, the name of the volume, the SecretProviderClass."""
    assert csi_volume_at(TARGET, "web", POD, driver_name=DRIVER) is CSI
    assert csi_volume_at(TARGET, "web", POD, driver_name="other.csi") is None
    assert csi_volume_at(target, class_name, POD, driver_name=DRIVER) is None
