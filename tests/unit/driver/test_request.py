"""keyferry.driver.request: what a call says, or what it lacks.

Source: docs/reference/upstream-driver.md#publish-request
Source: docs/reference/upstream-driver.md#nodepublishvolume
"""

from __future__ import annotations

import pytest

from keyferry.driver.request import (
    PublishRequest,
    UnpublishRequest,
    check_attributes,
    mount_call,
    parse_publish,
    parse_stage,
    parse_unpublish,
    parse_unstage,
    require_readonly,
)
from keyferry.errors import AuthorError, Code, RequestInvalidError
from keyferry.kubernetes import PodRef, SecretProviderClass
from keyferry.proto import csi_pb2 as csi
from keyferry.providers.api import DEFAULT_FILE_MODE
from keyferry.providers.known_fields.attributes import SERVICE_ACCOUNT_TOKENS

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


def test_publish_request_is_parsed() -> None:
    """Every field that the publisher needs, by name."""
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


def test_group_is_parsed() -> None:
    """The fsGroup of the pod; most pods have none."""
    assert request().group is None
    assert 5678 == request(volume_capability=in_group("5678")).group


@pytest.mark.parametrize("text", ["-1", "users", "1,mode=0777", "99999999999", "\u0661"])
def test_invalid_group_is_rejected(text: str) -> None:
    """It becomes an option of mount(2), so it must be numeric."""
    with pytest.raises(
        RequestInvalidError, match=r"volume_mount_group .* is not a numeric group id"
    ):
        request(volume_capability=in_group(text))


def test_missing_fields_of_publish_are_checked_in_upstreams_order() -> None:
    """Capability, volume id, target path, context: INVALID_ARGUMENT with the name of the field."""
    fields: dict[str, object] = {
        "volume_capability": None,
        "volume_id": "",
        "target_path": "",
        "volume_context": {},
    }
    reported = []
    for _ in range(4):
        with pytest.raises(RequestInvalidError) as caught:
            parse_publish(message(**fields))
        assert Code.INVALID_ARGUMENT == caught.value.code
        missing = next(name for name in fields if name in str(caught.value))
        reported.append(missing)
        del fields[missing]
    assert ["volume_capability", "volume_id", "target_path", "volume_context"] == reported


@pytest.mark.parametrize("context", [{"other": "x"}, {"secretProviderClass": "", "other": "x"}])
def test_volume_without_secret_provider_class_names_the_attribute(
    context: dict[str, str],
) -> None:
    """The code is that of upstream."""
    with pytest.raises(RequestInvalidError) as caught:
        request(volume_context=context)
    assert Code.UNKNOWN == caught.value.code
    assert "volumeAttributes.secretProviderClass" in str(caught.value)


def test_code_of_other_request_errors_is_invalid_argument() -> None:
    """Only the missing SecretProviderClass has another code."""
    with pytest.raises(RequestInvalidError):
        request(volume_context={"other": "x"})
    assert Code.INVALID_ARGUMENT == RequestInvalidError.code


@pytest.mark.parametrize("path", ["relative", "./t", "/a/../b", "/..", "/a\0b", " /a"])
def test_invalid_target_path_is_rejected(path: str) -> None:
    """For publish and unpublish, before anything is changed."""
    with pytest.raises(RequestInvalidError, match="target_path"):
        request(target_path=path)
    with pytest.raises(RequestInvalidError, match="target_path"):
        parse_unpublish(csi.NodeUnpublishVolumeRequest(volume_id="1", target_path=path))


@pytest.mark.parametrize(
    "path", ["/t/mount", "//t//mount", "/t/mount/", "/t/./mount", "///t/mount"]
)
def test_target_path_is_normalized(path: str) -> None:
    """Locks and pod statuses use the path, so both calls normalize it in the same way."""
    assert "/t/mount" == request(target_path=path).target_path
    unpublish = csi.NodeUnpublishVolumeRequest(volume_id="1", target_path=path)
    assert UnpublishRequest("/t/mount") == parse_unpublish(unpublish)


def test_missing_pod_information_is_empty() -> None:
    """The SecretProviderClass is then not found, and that message is clear."""
    assert PodRef("", "", "") == request(volume_context={"secretProviderClass": "c"}).pod


def test_missing_fields_of_unpublish_are_checked_in_order() -> None:
    """Volume id, then target path."""
    with pytest.raises(RequestInvalidError, match="volume_id"):
        parse_unpublish(csi.NodeUnpublishVolumeRequest())
    with pytest.raises(RequestInvalidError, match="target_path"):
        parse_unpublish(csi.NodeUnpublishVolumeRequest(volume_id="1"))


def test_missing_fields_of_stage_are_checked_in_order() -> None:
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


def test_missing_fields_of_unstage_are_checked_in_order() -> None:
    """Volume id, staging path; with both it is accepted."""
    unstage = csi.NodeUnstageVolumeRequest()
    with pytest.raises(RequestInvalidError, match="volume_id"):
        parse_unstage(unstage)
    unstage.volume_id = "1"
    with pytest.raises(RequestInvalidError, match="staging_target_path"):
        parse_unstage(unstage)
    unstage.staging_target_path = "/s"
    parse_unstage(unstage)


def test_writable_volume_is_rejected() -> None:
    """The message names the field of the pod to set."""
    require_readonly(request())
    with pytest.raises(RequestInvalidError, match="readOnly: true") as caught:
        require_readonly(request(readonly=False))
    assert Code.INVALID_ARGUMENT == caught.value.code


# --- the provider call ----------------------------------------------------------------------------


def call_for(
    parameters: dict[str, str], *, secrets: dict[str, str] | None = None, **context: str
) -> dict[str, str]:
    """The attributes that the provider receives."""
    cls = SecretProviderClass("shop", "c", "azure", parameters)
    wanted = request(volume_context=CONTEXT | context, secrets=secrets or {})
    return dict(mount_call(wanted, cls).attributes)


def test_context_of_kubelet_overrides_parameters() -> None:
    """A SecretProviderClass cannot act as another pod."""
    heard = call_for({"a": "1", "csi.storage.k8s.io/pod.name": "forged"})
    assert CONTEXT | {"a": "1"} == heard


def test_parameters_with_kubelets_prefix_are_ignored() -> None:
    """For example a token, where kubelet sends none."""
    forged = {"a": "1", SERVICE_ACCOUNT_TOKENS: "forged", "csi.storage.k8s.io/new": "forged"}
    assert CONTEXT | {"a": "1"} == call_for(forged)


@pytest.mark.parametrize(
    "name", ["vaultAddress", "objects", "csi.storage.k8s.io", "secretProvider"]
)
def test_attribute_that_overrides_the_class_is_named(name: str) -> None:
    """Also one that the SecretProviderClass does not set; its value is not quoted."""
    own = {key: value for key, value in CONTEXT.items() if key != "anything"}
    check_attributes(request(volume_context=own))
    with pytest.raises(AuthorError, match=f"override its SecretProviderClass: '{name}'") as caught:
        check_attributes(request(volume_context=own | {name: "canary"}))
    assert "--allow-attribute-overrides=false" in str(caught.value)
    assert "canary" not in str(caught.value)


def test_only_some_of_many_attributes_are_named() -> None:
    """On one line, without control characters."""
    names = {f"name\n{number:02}" * 50: "x" for number in range(12)}
    with pytest.raises(AuthorError, match="and 3 more") as caught:
        check_attributes(request(volume_context=CONTEXT | names))
    assert str(caught.value).isprintable()


def test_provider_request_has_path_and_mode_without_versions() -> None:
    """As in upstream; no secrets are None, not an empty map."""
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
def test_service_account_tokens_are_taken_from_secrets_first(
    in_secrets: str | None, in_context: str | None, heard: str | None
) -> None:
    """Kubernetes 1.35 and newer can send them there; an empty text is ignored."""
    secrets = {} if in_secrets is None else {SERVICE_ACCOUNT_TOKENS: in_secrets}
    context = {} if in_context is None else {SERVICE_ACCOUNT_TOKENS: in_context}
    assert heard == call_for({"a": "1"}, secrets=secrets, **context).get(SERVICE_ACCOUNT_TOKENS)


def test_representation_of_a_request_contains_no_secret() -> None:
    """Neither tokens nor credentials."""
    shown = repr(request(secrets={"k": "canary"}, volume_context=CONTEXT | {"t": "canary"}))
    assert "canary" not in shown
    assert "shop-secrets" in shown
