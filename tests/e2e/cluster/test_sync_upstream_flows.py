"""The published end-to-end flows of the Secrets Store Sync Controller, step by step.

Installation and messages are Keyferry's; manifests, conditions, reasons and Secrets are upstream's.

Source: https://github.com/kubernetes-sigs/secrets-store-sync-controller/tree/main/test/bats
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import grpc
import pytest
import pytest_asyncio

from keyferry.proto import provider_v1alpha1_pb2 as wire
from keyferry_devvault.model import EXCHANGE_AUDIENCE
from tests.e2e.cluster.external_provider import E2eProvider
from tests.e2e.cluster.kubectl import Document
from tests.e2e.cluster.manifests import MACHINE, VAULT, azure_class, secret_provider_class
from tests.e2e.cluster.sync_namespace import SyncNamespace, conditions, secret_sync, text_data
from tests.e2e.cluster.sync_process import DEFAULT, SyncWorld, running_sync_world
from tests.e2e.cluster.waiting import eventually
from tests.fakes.provider import external_provider

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]

NAMESPACES = ("test-v1alpha1", "spc-namespace", "ss-namespace", "default")
SPC = secret_provider_class(
    "e2e-providerspc",
    "e2e-provider",
    {"objects": "array:\n  - |\n    objectName: foo\n    objectVersion: v1\n"},
)
WORKLOAD = "44444444-0000-4000-8000-000000000001"


def sync(name: str, kind: str = "Opaque", **secret: object) -> Document:
    """Return a SecretSync of upstream's tests: the key `bar` with the content of `foo`."""
    made = secret_sync(name, {"bar": "foo"}, spc="e2e-providerspc", kind=kind, secret=secret)
    del made["metadata"]["annotations"]
    return made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world() -> AsyncIterator[SyncWorld]:
    """An API server with the garbage collector, the controller, and upstream's test provider."""
    with TemporaryDirectory(prefix="keyferry-") as folder:
        async with running_sync_world(Path(folder)) as running:
            await running.start_garbage_collector()
            socket = running.provider_sockets / "e2e-provider.sock"
            async with external_provider(socket, E2eProvider().answer):
                await running.start_controller(DEFAULT, namespaces=NAMESPACES)
                yield running


async def verify(world: SyncWorld, name: str, reason: str, *, namespace: str = "default") -> str:
    """Check that the first result of a SecretSync is a failure; return its message.

    As upstream, this reads `SecretCreated` as soon as it is not `Unknown`, and then the Secret.
    """
    result: dict[str, Document] = {}

    async def known() -> bool | None:
        found = await world.server.kubectl.get("secretsync", name, f"--namespace={namespace}")
        result.update(conditions(found))
        assert "SecretCreated" in result
        return result["SecretCreated"]["status"] != "Unknown" or None

    await eventually(known, f"the condition SecretCreated of {name}")
    created = result["SecretCreated"]
    assert ("False", reason) == (created["status"], created["reason"])
    with pytest.raises(AssertionError, match="not found"):
        await world.server.kubectl("get", "secret", name, f"--namespace={namespace}")
    return str(created["message"])


async def test_crds_are_established(world: SyncWorld) -> None:
    """Those of SecretProviderClass and SecretSync."""
    for crd in (
        "secretproviderclasses.secrets-store.csi.x-k8s.io",
        "secretsyncs.secret-sync.x-k8s.io",
    ):
        await world.server.kubectl(
            *("wait", "--for=condition=established", "--timeout=60s", f"crd/{crd}")
        )


async def test_a_secret_is_created_and_deleted_with_its_secret_sync(world: SyncWorld) -> None:
    """`sse2esecret` has the key `bar` and one owner; a key that others add stays."""
    namespace, kubectl = "test-v1alpha1", world.server.kubectl
    at = f"--namespace={namespace}"
    await kubectl.apply(SPC, namespace=namespace)
    await kubectl.apply(sync("sse2esecret"), namespace=namespace)
    await kubectl("wait", "--for=create", "secret/sse2esecret", at, "--timeout=60s")
    secret = await kubectl.get("secret", "sse2esecret", at)
    assert {"bar": "secret"} == text_data(secret)
    (owner,) = secret["metadata"]["ownerReferences"]
    assert "secret-sync.x-k8s.io/v1alpha1" == owner["apiVersion"]

    shop = SyncNamespace(world, namespace)
    await kubectl("patch", "secret", "sse2esecret", at, '--patch={"stringData":{"baz":"theirs"}}')
    await shop.force("sse2esecret", "1")
    await shop.ready("sse2esecret")
    await shop.secret_has("sse2esecret", {"bar": "secret", "baz": "theirs"})

    await kubectl("delete", "secretsync", "sse2esecret", at)
    await kubectl("wait", "--for=delete", "secret/sse2esecret", at, "--timeout=120s")


async def test_a_class_of_another_namespace_is_not_found(world: SyncWorld) -> None:
    """`SecretCreated` is False with `SecretProviderClassMisconfigured`."""
    await world.server.kubectl.apply(SPC, namespace="spc-namespace")
    await world.server.kubectl.apply(sync("sse2esecret"), namespace="ss-namespace")
    message = await verify(
        world, "sse2esecret", "SecretProviderClassMisconfigured", namespace="ss-namespace"
    )
    assert "ss-namespace/e2e-providerspc" in message


@pytest.mark.parametrize(
    "made",
    [
        sync("my-custom-api-secret", "example.com/api-credentials"),
        sync(
            "sse2eserviceaccountsecret",
            "kubernetes.io/service-account-token",
            annotations={"kubernetes.io/service-account.name": "default"},
        ),
        sync(
            "sse2einvalidannotationssecret",
            annotations={"my.annotation/with_invalid_characters!": "default"},
        ),
        sync(
            "sse2einvalidlabelsecret", labels={"invalid/key_with_invalid_characters!": "validValue"}
        ),
    ],
    ids=lambda made: made["metadata"]["name"],
)
async def test_a_secret_that_kubernetes_refuses_is_reported(
    world: SyncWorld, made: Document
) -> None:
    """A type that is not allowed, one that never is, and invalid keys: `ControllerPatchError`."""
    await world.server.kubectl.apply(SPC, made)
    assert await verify(world, made["metadata"]["name"], "ControllerPatchError")


async def test_the_crd_refuses_long_values_of_labels(world: SyncWorld) -> None:
    """With more than 63 characters."""
    long = "ThisValueExceedsTheSixtyThreeCharacterLimitAndShouldFailValidation"
    with pytest.raises(AssertionError, match=r"label.* 63"):
        await world.server.kubectl.apply(sync("sse2einvalidlabelsecret", labels={"my.label": long}))


# --- `keyferry provider azure` as the providerContainer of upstream's controller -----------------


def upstream_call(
    parameters: Mapping[str, str], *, namespace: str, tokens: Mapping[str, str] | None = None
) -> wire.MountRequest:
    """Return the message that upstream's controller sends for a SecretSync."""
    attributes = {
        **parameters,
        "csi.storage.k8s.io/pod.name": "secrets-store-sync-controller-manager-7c5d9b-x2x9z",
        "csi.storage.k8s.io/pod.uid": "0c3d8a4e-6f31-4d53-9d6f-0a8c4b6c1f52",
        "csi.storage.k8s.io/pod.namespace": namespace,
        "csi.storage.k8s.io/serviceAccount.name": "default",
    }
    if tokens:
        expires = {"expirationTimestamp": "2099-01-01T00:00:00Z"}
        known = {audience: {"token": token, **expires} for audience, token in tokens.items()}
        attributes["csi.storage.k8s.io/serviceAccount.tokens"] = json.dumps(known)
    return wire.MountRequest(
        attributes=json.dumps(attributes),
        secrets="{}",
        target_path="/mnt/secrets-store",
        permission="420",
    )


async def test_the_provider_serves_the_controller_of_upstream(world: SyncWorld) -> None:
    """Files of a managed identity, and of the token that upstream requests; and an error."""
    socket = world.folder / "azure.sock"
    child = world.children.start(
        "provider",
        "keyferry",
        *("provider", "azure", f"--endpoint=unix://{socket}", "--healthz-port=0", "--v=10"),
        f"--dev-vault={world.vault.data.folder}",
    )

    async def exists() -> bool | None:
        return socket.exists() or None

    await eventually(exists, f"{socket} to exist")
    value = world.set_secret("sidecar")
    machine = azure_class("web", {"sidecar": "db"})["spec"]["parameters"]
    workload = azure_class("web", {"sidecar": "db"}, clientID=WORKLOAD)["spec"]["parameters"]
    world.vault.add_app(WORKLOAD, secret=None)
    subject, issuer = "system:serviceaccount:default:default", world.server.address.url
    world.vault.federate(WORKLOAD, subject=subject, issuer=issuer)
    flags = (f"--audience={EXCHANGE_AUDIENCE}", "--duration=600s", "--namespace=default")
    token = (await world.server.kubectl("create", "token", "default", *flags)).strip()
    tokens = {EXCHANGE_AUDIENCE: token}
    local = [("grpc.default_authority", "localhost")]
    async with grpc.aio.insecure_channel(f"unix://{socket}", options=local) as channel:
        mount: grpc.aio.UnaryUnaryMultiCallable[wire.MountRequest, wire.MountResponse]
        mount = channel.unary_unary(
            "/v1alpha1.CSIDriverProvider/Mount",
            request_serializer=wire.MountRequest.SerializeToString,
            response_deserializer=wire.MountResponse.FromString,
        )
        answer = await mount(upstream_call(machine, namespace="default"), timeout=60)
        assert {"db": value.encode()} == {file.path: file.contents for file in answer.files}
        assert ["secret/sidecar"] == [each.id for each in answer.object_version]
        assert "" == answer.error.code

        call = upstream_call(workload, namespace="default", tokens=tokens)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await mount(call, timeout=60)
        assert WORKLOAD in str(refused.value.details())
        assert token not in str(refused.value.details())
        world.vault.grant(VAULT, WORKLOAD, "get")

        async def granted() -> wire.MountResponse:
            try:
                return await mount(call, timeout=60)
            except grpc.aio.AioRpcError as error:
                raise AssertionError(error.details()) from None

        answer = await eventually(granted, "the permission to be noticed")
        assert {"db": value.encode()} == {file.path: file.contents for file in answer.files}
    assert MACHINE in child.text()
    assert token not in child.text()
