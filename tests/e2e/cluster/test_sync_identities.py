"""With which identity SecretSyncs read a vault, with a real Kubernetes API and no node."""

from __future__ import annotations

import json

import grpc
import pytest

from keyferry.net.grpc_server import Context
from keyferry.proto import provider_v1alpha1_pb2 as wire
from keyferry_devvault.model import EXCHANGE_AUDIENCE
from tests.e2e.cluster.external_provider import E2eProvider
from tests.e2e.cluster.kubectl import Document
from tests.e2e.cluster.manifests import MACHINE, VAULT, azure_class, secret_provider_class
from tests.e2e.cluster.sync_namespace import (
    SyncNamespace,
    azure_objects,
    changed_class,
    conditions,
    secret_sync,
)
from tests.e2e.cluster.sync_process import DEFAULT, service_account
from tests.e2e.cluster.sync_scenarios import STRICT, STRICT_AUDIENCE, sync_scenario
from tests.fakes.provider import external_provider

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]

WORKLOAD = "22222222-0000-4000-8000-000000000011"
PARTNER = "22222222-0000-4000-8000-000000000012"
STRANGER = "22222222-0000-4000-8000-000000000013"
SERVICE_PRINCIPAL = "22222222-0000-4000-8000-000000000014"
LATE = "22222222-0000-4000-8000-000000000015"
REVOKED = "22222222-0000-4000-8000-000000000016"

ALLOWED = {"secret-sync.x-k8s.io/allowed": "true"}
ALLOWED_NAMES = "secret-sync.x-k8s.io/secret-syncs"


def federate(shop: SyncNamespace, client: str, account: str) -> None:
    """Let the tokens of a service account of the namespace stand for an application."""
    shop.vault.add_app(client, secret=None)
    issuer = shop.world.server.address.url
    subject = f"system:serviceaccount:{shop.name}:{account}"
    shop.vault.federate(client, subject=subject, issuer=issuer)


# --- workload identity ---------------------------------------------------------------------------


@sync_scenario("workload-identity")
async def test_a_secret_sync_reads_as_its_service_account(shop: SyncNamespace) -> None:
    """With tokens of TokenRequest; another service account of the namespace is refused."""
    federate(shop, WORKLOAD, "web")
    value = shop.world.set_secret("workload-identity")
    shop.vault.grant(VAULT, WORKLOAD, "get")
    await shop.apply(
        service_account("web"),
        service_account("stranger"),
        azure_class("web", {"workload-identity": "db"}, clientID=WORKLOAD),
        secret_sync("web", {"password": "db"}, account="web"),
        secret_sync("stranger", {"password": "db"}, spc="web", account="stranger"),
    )
    await shop.ready("web")
    await shop.secret_has("web", {"password": value})
    subject = f"system:serviceaccount:{shop.name}:stranger"
    await shop.failed("stranger", "AADSTS700213", subject, reason="ProviderError")
    message = await shop.says("SecretSyncFailed", "AADSTS700213", about="stranger")
    assert "eyJ" not in message, "the message contains a token"
    assert [] == shop.versions("Secret", "stranger")


@sync_scenario("account-later")
async def test_a_missing_service_account_is_waited_for(shop: SyncNamespace) -> None:
    """The error names it; the SecretSync is retried."""
    federate(shop, LATE, "late")
    value = shop.world.set_secret("account-later")
    shop.vault.grant(VAULT, LATE, "get")
    await shop.apply(
        azure_class("web", {"account-later": "db"}, clientID=LATE),
        secret_sync("web", {"password": "db"}, account="late"),
    )
    await shop.failed("web", f"{shop.name}/late", "not exist", reason="ControllerSyncError")
    await shop.apply(service_account("late"))
    await shop.secret_has("web", {"password": value})
    await shop.ready("web")


@sync_scenario("audiences")
async def test_only_permitted_audiences_are_requested(shop: SyncNamespace) -> None:
    """The error names the audience and the value of the chart; no token was requested."""
    await shop.apply(
        service_account("default", labels=ALLOWED),
        azure_class("web", {"audiences": "db"}, clientID=WORKLOAD),
        secret_sync("web", {"password": "db"}, secretSyncControllerName=STRICT),
    )
    texts = (EXCHANGE_AUDIENCE, f"permitted: {STRICT_AUDIENCE}", "secretSync.tokenRequests")
    await shop.failed("web", *texts, reason="ControllerSyncError")
    world = shop.world
    strict = [each for each in world.controllers if each.name == STRICT]
    requests = [each for each in world.writes(*strict) if each.resource == "serviceaccounts/token"]
    assert [] == [each for each in requests if each.namespace == shop.name]


@sync_scenario("opt-in")
async def test_a_service_account_must_opt_in_if_the_flag_is_set(shop: SyncNamespace) -> None:
    """With a label; an annotation restricts it to SecretSyncs. Without it, the Secret stays."""
    value = shop.world.set_secret("opt-in")
    await shop.apply(
        azure_class("web", {"opt-in": "db"}),
        secret_sync("web", {"password": "db"}, secretSyncControllerName=STRICT),
    )
    await shop.failed("web", "secret-sync.x-k8s.io/allowed", reason="ControllerSyncError")
    assert [] == shop.versions("Secret", "web")
    await shop.apply(service_account("default", labels=ALLOWED))
    await shop.measure("Ready after the opt-in", shop.ready("web"))
    await shop.secret_has("web", {"password": value})

    client = shop.world.client
    other = {ALLOWED_NAMES: "other, another"}
    await client.annotate("ServiceAccount", shop.name, "default", other)
    await shop.failed("web", ALLOWED_NAMES, reason="ControllerSyncError")
    await shop.secret_has("web", {"password": value})
    await client.annotate("ServiceAccount", shop.name, "default", {ALLOWED_NAMES: "other, web"})
    await shop.ready("web")
    await client.annotate("ServiceAccount", shop.name, "default", {ALLOWED_NAMES: None})
    await client.merge(
        "ServiceAccount", shop.name, "default", {"metadata": {"labels": dict.fromkeys(ALLOWED)}}
    )
    await shop.failed("web", "secret-sync.x-k8s.io/allowed", reason="ControllerSyncError")


@sync_scenario("several-vaults")
async def test_one_class_reads_several_vaults(shop: SyncNamespace) -> None:
    """Two vaults, each with its own identity; another one is refused as a whole."""
    federate(shop, STRANGER, "web")
    federate(shop, PARTNER, "web")
    shop.vault.set_secret("partner", "unused", "unused")
    shop.vault.grant("partner", PARTNER, "get")
    value = shop.world.set_secret("several-vaults")
    theirs = shop.world.set_secret("several-vaults", vault="partner")
    here = {"objectName": "several-vaults", "objectType": "secret"}
    there = {
        **here,
        "objectAlias": "partner",
        "keyvaultName": "partner",
        "clientID": PARTNER,
    }
    spc = changed_class(
        azure_class("web", {}, clientID=STRANGER), objects=azure_objects(here, there)
    )
    await shop.apply(
        service_account("web"),
        spc,
        secret_sync("web", {"own": "several-vaults", "partner": "partner"}, account="web"),
    )
    await shop.failed("web", "contoso", STRANGER, reason="ProviderError")
    assert [] == shop.versions("Secret", "web")
    shop.vault.grant(VAULT, STRANGER, "get")
    await shop.annotate("SecretSync", "web", refresh="1")
    await shop.secret_has("web", {"own": value, "partner": theirs})
    await shop.ready("web")


# --- other identities ----------------------------------------------------------------------------


@sync_scenario("service-principal")
async def test_a_secret_sync_reads_with_the_credentials_of_a_secret(shop: SyncNamespace) -> None:
    """Which is missing, then wrong, then right."""
    client_secret = shop.world.value("client-secret")
    shop.vault.add_app(SERVICE_PRINCIPAL, secret=client_secret)
    value = shop.world.set_secret("service-principal")
    shop.vault.grant(VAULT, SERVICE_PRINCIPAL, "get")
    credentials = {"keyferry.dev/credentials-secret": "login"}
    await shop.apply(
        azure_class("web", {"service-principal": "db"}, usePodIdentity="false"),
        secret_sync("web", {"password": "db"}, annotations=credentials),
        secret_sync("without", {"password": "db"}, spc="web"),
    )
    await shop.failed("web", f"{shop.name}/login", "not exist", reason="ControllerSyncError")
    failed = await shop.failed("without", reason="ProviderError")
    assert "keyferry.dev/credentials-secret" in conditions(failed)["Ready"]["message"]
    wrong = shop.world.value("wrong-client-secret")
    await shop.apply(_credentials(wrong))
    await shop.annotate("SecretSync", "web", refresh="1")
    await shop.failed("web", "AADSTS7000215", reason="ProviderError")
    await shop.apply(_credentials(client_secret))
    await shop.annotate("SecretSync", "web", refresh="2")
    await shop.secret_has("web", {"password": value})
    await shop.ready("web")


def _credentials(secret: str) -> Document:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "login"},
        "stringData": {"clientid": SERVICE_PRINCIPAL, "clientsecret": secret},
    }


@sync_scenario("revoked")
async def test_a_lost_permission_leaves_the_secret_and_is_reported(shop: SyncNamespace) -> None:
    """And the SecretSync recovers with the permission."""
    shop.vault.add_managed_identity(REVOKED)
    value = shop.world.set_secret("revoked")
    shop.vault.grant(VAULT, REVOKED, "get")
    spc = azure_class(
        "web", {"revoked": "db"}, useVMManagedIdentity="true", userAssignedIdentityID=REVOKED
    )
    await shop.apply(spc, secret_sync("web", {"password": "db"}))
    await shop.ready("web")
    shop.vault.revoke(VAULT, REVOKED)
    await shop.annotate("SecretSync", "web", refresh="1")
    failed = await shop.failed("web", "contoso", REVOKED, reason="ProviderError")
    assert "False" == conditions(failed)["SecretUpdated"]["status"]
    assert "True" == conditions(failed)["SecretCreated"]["status"]
    await shop.secret_has("web", {"password": value})
    shop.vault.grant(VAULT, REVOKED, "get")
    await shop.annotate("SecretSync", "web", refresh="2")
    await shop.ready("web")
    assert 1 == len(shop.versions("Secret", "web")), "the Secret was never written again"


@sync_scenario("managed-identity")
async def test_secret_syncs_cannot_name_another_service_account(shop: SyncNamespace) -> None:
    """Parameters with the names of kubelet's attributes have no effect."""
    federate(shop, "22222222-0000-4000-8000-000000000017", "privileged")
    shop.vault.grant(VAULT, "22222222-0000-4000-8000-000000000017", "get")
    shop.world.set_secret("managed-identity")
    spc = changed_class(
        azure_class(
            "web", {"managed-identity": "db"}, clientID="22222222-0000-4000-8000-000000000017"
        ),
        **{
            "csi.storage.k8s.io/serviceAccount.name": "privileged",
            "csi.storage.k8s.io/pod.namespace": "kube-system",
        },
    )
    await shop.apply(service_account("privileged"), spc, secret_sync("web", {"password": "db"}))
    subject = f"system:serviceaccount:{shop.name}:default"
    await shop.failed("web", "AADSTS700213", subject, reason="ProviderError")
    assert MACHINE not in conditions(await shop.failed("web", reason="ProviderError"))["Ready"]


# --- external providers --------------------------------------------------------------------------


@sync_scenario("external")
async def test_an_external_provider_is_called_as_by_upstream(shop: SyncNamespace) -> None:
    """The exact message of upstream's controller; an error of the provider is reported."""
    calls: list[wire.MountRequest] = []
    provider = E2eProvider(audiences=(EXCHANGE_AUDIENCE,))

    async def answer(message: wire.MountRequest, context: Context) -> wire.MountResponse:
        calls.append(message)
        if "fail" in message.attributes:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the vault of the test is closed")
        return await provider.answer(message, context)

    objects = "array:\n- |\n  objectName: foo\n  objectVersion: v1\n"
    spc = secret_provider_class("e2e-providerspc", "e2e-provider", {"objects": objects})
    sync = secret_sync("sse2esecret", {"bar": "foo"}, spc="e2e-providerspc")
    await shop.apply(spc, sync)
    texts = ("e2e-provider", str(shop.world.provider_sockets))
    await shop.failed("sse2esecret", *texts, reason="SecretProviderClassMisconfigured")
    async with external_provider(shop.world.provider_sockets / "e2e-provider.sock", answer):
        await shop.annotate("SecretSync", "sse2esecret", refresh="1")
        await shop.secret_has("sse2esecret", {"bar": "secret"})
        await shop.ready("sse2esecret")
        await shop.apply(changed_class(spc, fail="yes"))
        text = "the vault of the test is closed"
        await shop.failed("sse2esecret", text, reason="ProviderError")

    (controller,) = [each for each in shop.world.controllers if each.name == DEFAULT]
    call = calls[0]
    assert "{}" == call.secrets
    assert "420" == call.permission
    assert "/mnt/secrets-store" == call.target_path
    assert [] == list(call.current_object_version)
    attributes = json.loads(call.attributes)
    tokens = json.loads(attributes.pop("csi.storage.k8s.io/serviceAccount.tokens"))
    assert {EXCHANGE_AUDIENCE} == set(tokens)
    assert {"token", "expirationTimestamp"} == set(tokens[EXCHANGE_AUDIENCE])
    assert {
        "objects": objects,
        "csi.storage.k8s.io/pod.name": controller.pod,
        "csi.storage.k8s.io/pod.uid": controller.pod_uid,
        "csi.storage.k8s.io/pod.namespace": shop.name,
        "csi.storage.k8s.io/serviceAccount.name": "default",
    } == attributes
