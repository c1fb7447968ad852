"""keyferry.driver.request: what a call says, or what it lacks.

Source: docs/reference/upstream-driver.md#publish-request
Source: docs/reference/upstream-driver.md#nodepublishvolume
"""

from __future__ import annotations

import pytest

from keyferry.driver.request import (
    PublishRequest,
    UnpublishRequest,
    mount_call,
    parse_publish,
    parse_stage,
    parse_unpublish,
    parse_unstage,
    require_readonly,
)
from keyferry.errors import Code, RequestInvalidError
from keyferry.kubernetes import PodRef, SecretProviderClass
from keyferry.proto import csi_pb2 as csi
from keyferry.providers.api import DEFAULT_FILE_MODE, SERVICE_ACCOUNT_TOKENS

CONTEXT = {
    "secretProviderClass": "shop-secrets",
    "csi.storage.k8s.io/pod.name": "web-0",
    "csi.storage.k8s.io/pod.namespace": "shop",
    "csi.storage.k8s.io/pod.uid": "11",
    "csi.storage.k8s.io/ephemeral": "true",
    "anything": "else",
}


def message(**fields: object) -> csi.NodePublishVolumeRequest:
    """A call as kubelet sends it, some of its fields changed."""
    usual: dict[str, object] = {
        "volume_id": "csi-1",
        "target_path": "/t/mount",
        "volume_capability": csi.VolumeCapability(),
        "readonly": True,
        "volume_context": CONTEXT,
    }
    return csi.NodePublishVolumeRequest(**(usual | fields))  # type: ignore[arg-type]


def request(**fields: object) -> PublishRequest:
    """The same, parsed."""
    return parse_publish(message(**fields))


def test_a_publish_call_is_parsed_once() -> None:
    """Everything that the story needs, by name."""
    assert PublishRequest(
        target_path="/t/mount",
        readonly=True,
        pod=PodRef("shop", "web-0", "11"),
        class_name="shop-secrets",
        context=CONTEXT,
        secrets={"k": "v"},
    ) == request(secrets={"k": "v"})


def in_group(text: str) -> csi.VolumeCapability:
    """The capability that kubelet sends for a pod with this fsGroup."""
    return csi.VolumeCapability(mount=csi.VolumeCapability.MountVolume(volume_mount_group=text))


def test_the_group_of_a_volume_is_a_number() -> None:
    """The fsGroup of the pod; most pods have none."""
    assert request().group is None
    assert 5678 == request(volume_capability=in_group("5678")).group


@pytest.mark.parametrize("text", ["-1", "users", "1,mode=0777", "99999999999", "\u0661"])
def test_a_group_that_is_no_number_is_refused(text: str) -> None:
    """It becomes an option of mount(2), so nothing else may be in it."""
    with pytest.raises(
        RequestInvalidError, match=r"volume_mount_group .* is not a numeric group id"
    ):
        request(volume_capability=in_group(text))


def test_what_a_publish_call_lacks_is_told_in_the_order_of_upstream() -> None:
    """Capability, volume id, target path, context: each INVALID_ARGUMENT with the field's name."""
    fields: dict[str, object] = {
        "volume_capability": None,
        "volume_id": "",
        "target_path": "",
        "volume_context": {},
    }
    told = []
    for _ in range(4):
        with pytest.raises(RequestInvalidError) as caught:
            parse_publish(message(**fields))
        assert Code.INVALID_ARGUMENT == caught.value.code
        missing = next(name for name in fields if name in str(caught.value))
        told.append(missing)
        del fields[missing]
    assert ["volume_capability", "volume_id", "target_path", "volume_context"] == told


@pytest.mark.parametrize("context", [{"other": "x"}, {"secretProviderClass": "", "other": "x"}])
def test_a_volume_without_a_class_is_unknown_and_told_which_attribute(
    context: dict[str, str],
) -> None:
    """The code is upstream's; the message names the line of the pod to mend."""
    with pytest.raises(RequestInvalidError) as caught:
        request(volume_context=context)
    assert Code.UNKNOWN == caught.value.code
    assert "volumeAttributes.secretProviderClass" in str(caught.value)


def test_the_code_of_other_errors_stays_what_it_was() -> None:
    """The exception for the missing class is one of that error alone."""
    with pytest.raises(RequestInvalidError):
        request(volume_context={"other": "x"})
    assert Code.INVALID_ARGUMENT == RequestInvalidError.code


@pytest.mark.parametrize("path", ["relative", "./t", "/a/../b", "/..", "/a\0b", " /a"])
def test_a_target_path_that_is_not_absolute_and_plain_is_refused(path: str) -> None:
    """For both calls, before anything is touched."""
    with pytest.raises(RequestInvalidError, match="target_path"):
        request(target_path=path)
    with pytest.raises(RequestInvalidError, match="target_path"):
        parse_unpublish(csi.NodeUnpublishVolumeRequest(volume_id="1", target_path=path))


@pytest.mark.parametrize(
    "path", ["/t/mount", "//t//mount", "/t/mount/", "/t/./mount", "///t/mount"]
)
def test_one_target_has_one_spelling(path: str) -> None:
    """Locks and records go by the path, so both calls normalise it the same way."""
    assert "/t/mount" == request(target_path=path).target_path
    unpublish = csi.NodeUnpublishVolumeRequest(volume_id="1", target_path=path)
    assert UnpublishRequest("/t/mount") == parse_unpublish(unpublish)


def test_a_pod_that_kubelet_does_not_describe_is_empty_not_an_error() -> None:
    """The class is then looked for in no namespace, and its message says so."""
    assert PodRef("", "", "") == request(volume_context={"secretProviderClass": "c"}).pod


def test_what_an_unpublish_call_lacks_is_told_id_first() -> None:
    """Volume id, then target path."""
    with pytest.raises(RequestInvalidError, match="volume_id"):
        parse_unpublish(csi.NodeUnpublishVolumeRequest())
    with pytest.raises(RequestInvalidError, match="target_path"):
        parse_unpublish(csi.NodeUnpublishVolumeRequest(volume_id="1"))


def test_what_a_stage_call_lacks_is_told_in_order() -> None:
    """Volume id, staging path, capability; with all three it is accepted."""
    stage = csi.NodeStageVolumeRequest()
    with pytest.raises(RequestInvalidError, match="volume_id"):
        parse_stage(stage)
    stage.volume_id = "1"
    with pytest.raises(RequestInvalidError, match="staging_target_path"):
        parse_stage(stage)
    stage.staging_target_path = "/s"
    with pytest.raises(RequestInvalidError, match="volume_capability"):
        parse_stage(stage)
    stage.volume_capability.SetInParent()
    parse_stage(stage)


def test_what_an_unstage_call_lacks_is_told_in_order() -> None:
    """Volume id, staging path; with both it is accepted."""
    unstage = csi.NodeUnstageVolumeRequest()
    with pytest.raises(RequestInvalidError, match="volume_id"):
        parse_unstage(unstage)
    unstage.volume_id = "1"
    with pytest.raises(RequestInvalidError, match="staging_target_path"):
        parse_unstage(unstage)
    unstage.staging_target_path = "/s"
    parse_unstage(unstage)


def test_only_read_only_volumes_are_delivered() -> None:
    """The message says which field of the pod to set."""
    require_readonly(request())
    with pytest.raises(RequestInvalidError, match="readOnly: true") as caught:
        require_readonly(request(readonly=False))
    assert Code.INVALID_ARGUMENT == caught.value.code


# --- the provider call ----------------------------------------------------------------------------


def call_for(
    parameters: dict[str, str], *, secrets: dict[str, str] | None = None, **context: str
) -> dict[str, str]:
    """The attributes that the provider hears."""
    cls = SecretProviderClass("shop", "c", "azure", parameters)
    wanted = request(volume_context=CONTEXT | context, secrets=secrets or {})
    return dict(mount_call(wanted, cls).attributes)


def test_the_provider_hears_the_class_overlaid_by_all_that_kubelet_says() -> None:
    """On equal keys kubelet wins, so a class cannot pretend to be another pod."""
    heard = call_for({"a": "1", "csi.storage.k8s.io/pod.name": "forged"})
    assert CONTEXT | {"a": "1"} == heard


def test_a_class_does_not_speak_for_kubelet() -> None:
    """A token, or any key of kubelet's, that a class sets where kubelet is silent is not heard."""
    forged = {"a": "1", SERVICE_ACCOUNT_TOKENS: "forged", "csi.storage.k8s.io/new": "forged"}
    assert CONTEXT | {"a": "1"} == call_for(forged)


def test_the_provider_hears_the_path_the_mode_and_no_versions() -> None:
    """As upstream sends them; no secrets are None, not an empty map."""
    call = mount_call(request(), SecretProviderClass("shop", "c", "azure", {"a": "1"}))
    assert ("/t/mount", DEFAULT_FILE_MODE) == (call.target_path, call.permission)
    assert ((), None) == (call.current_versions, call.secrets)
    with_secrets = request(secrets={"k": "v"})
    call = mount_call(with_secrets, SecretProviderClass("shop", "c", "azure", {"a": "1"}))
    assert {"k": "v"} == call.secrets


@pytest.mark.parametrize(
    ("in_secrets", "in_context", "heard"),
    [
        (None, None, None),
        (None, "context", "context"),
        ("secret", None, "secret"),
        ("secret", "context", "secret"),
        ("", "context", "context"),
        ("", None, None),
    ],
)
def test_service_account_tokens_come_from_the_secrets_first(
    in_secrets: str | None, in_context: str | None, heard: str | None
) -> None:
    """Kubernetes 1.35 and newer can put them there; an empty text there means nothing."""
    secrets = {} if in_secrets is None else {SERVICE_ACCOUNT_TOKENS: in_secrets}
    context = {} if in_context is None else {SERVICE_ACCOUNT_TOKENS: in_context}
    assert heard == call_for({"a": "1"}, secrets=secrets, **context).get(SERVICE_ACCOUNT_TOKENS)


def test_a_request_shows_no_secret() -> None:
    """Neither tokens nor credentials are in its representation."""
    shown = repr(request(secrets={"k": "canary"}, volume_context=CONTEXT | {"t": "canary"}))
    assert "canary" not in shown
    assert "shop-secrets" in shown
