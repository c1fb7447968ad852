"""Values and tokens of SecretSyncs appear only in Secrets and vaults.

The last module of the tests of the controller: it also searches what the others have written.
"""

from __future__ import annotations

import re

import pytest

from tests.e2e.canaries import search, search_folder
from tests.e2e.cluster.kubectl import Document
from tests.e2e.cluster.manifests import VAULT, azure_class
from tests.e2e.cluster.sync_namespace import (
    SyncNamespace,
    azure_objects,
    changed_class,
    secret_sync,
    text_data,
)
from tests.e2e.cluster.sync_process import SyncWorld, service_account
from tests.fakes.devvault import CloseMidResponse, RespondStatus

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]

NAME = "leaks"
"""Of the controller, the namespace and the secret in the vault."""
WORKLOAD = "33333333-0000-4000-8000-000000000001"
APP = "33333333-0000-4000-8000-000000000002"
_FAULTS: tuple[RespondStatus | CloseMidResponse, ...] = (
    RespondStatus(500),
    RespondStatus(403),
    CloseMidResponse(),
)
VAULT_TOKEN = re.compile(rb"\b(?:hvs|s)\.[A-Za-z0-9]{24}")
"""The beginning of any token of OpenBao or Vault."""


async def test_values_and_tokens_do_not_leak(sync_world: SyncWorld) -> None:
    """Every identity, and failures of every stage, at the highest verbosity."""
    world, shop = sync_world, SyncNamespace(sync_world, NAME)
    controller = await world.start_controller(
        NAME, "--negative-cache-ttl=0", "--log-format-json=true", namespaces=[NAME]
    )
    value = world.set_secret(NAME)
    client_secret, wrong = world.value("client-secret"), world.value("wrong-secret")
    shop.vault.add_app(WORKLOAD, secret=None)
    subject, issuer = f"system:serviceaccount:{NAME}:web", world.server.address.url
    shop.vault.federate(WORKLOAD, subject=subject, issuer=issuer)
    shop.vault.add_app(APP, secret=client_secret)
    for principal in (WORKLOAD, APP):
        shop.vault.grant(VAULT, principal, "get")
    await shop.apply(service_account("web"), *_classes(), *_logins(client_secret, wrong))
    await shop.apply(*_syncs())
    for name in ("machine", "workload", "principal"):
        await shop.secret_has(name, {"password": value})
        await shop.ready(name)
    value = world.set_secret(NAME)
    await shop.edit("machine", password=world.value("edited"))
    for name in ("machine", "workload", "principal"):
        await shop.annotate("SecretSync", name, refresh="1")
        await shop.secret_has(name, {"password": value})
    await shop.failed("stranger", "AADSTS700213", reason="ProviderError")
    await shop.failed("wrong", "AADSTS7000215", reason="ProviderError")
    await shop.failed("unknown-path", "'nothing'", reason="RemoteSecretStoreFetchFailed")
    await shop.failed("tls", "PEM", reason="RemoteSecretStoreFetchFailed")
    await shop.failed("base64", f"secret {NAME}", reason="ProviderError")
    await shop.failed("label", reason="ControllerPatchError")
    for number, fault in enumerate(_FAULTS):
        shop.vault.add_fault("contoso.vault.azure.net", fault, times=None)
        await shop.force("machine", f"x{number}")
        await shop.failed("machine", reason="ProviderError")
        shop.vault.clear_faults()
    await controller.metric("keyferry_secretsync_total")
    await controller.terminate()
    _check(world)


def _classes() -> list[Document]:
    aliases = {NAME: "db"}
    encoded = {"objectName": NAME, "objectType": "secret", "objectEncoding": "base64"}
    return [
        azure_class("machine", aliases),
        azure_class("workload", aliases, clientID=WORKLOAD),
        azure_class("principal", aliases, usePodIdentity="false"),
        changed_class(azure_class("base64", {}), objects=azure_objects(encoded)),
    ]


def _logins(right: str, wrong: str) -> list[Document]:
    return [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name},
            "stringData": {"clientid": APP, "clientsecret": text},
        }
        for name, text in (("right", right), ("wrong-login", wrong))
    ]


def _syncs() -> list[Document]:
    def sync(name: str, spc: str, *, login: str = "", **options: object) -> Document:
        annotations = {"keyferry.dev/credentials-secret": login} if login else {}
        path = str(options.pop("path", "db"))
        made = secret_sync(name, {"password": path}, spc=spc, annotations=annotations)
        made["spec"] |= {"secretSyncControllerName": NAME, **options}
        return made

    tls = sync("tls", "machine")
    parts = [{"sourcePath": "db", "targetKey": key} for key in ("tls.crt", "tls.key")]
    tls["spec"]["secretObject"] = {"type": "kubernetes.io/tls", "data": parts}
    label = sync("label", "machine")
    label["spec"]["secretObject"]["labels"] = {"invalid/key_with_invalid_characters!": "x"}
    return [
        sync("machine", "machine"),
        sync("workload", "workload", serviceAccountName="web"),
        sync("principal", "principal", login="right"),
        sync("stranger", "workload"),
        sync("wrong", "principal", login="wrong-login"),
        sync("unknown-path", "machine", path="nothing"),
        sync("base64", "base64", path=NAME),
        tls,
        label,
    ]


def _check(world: SyncWorld) -> None:
    """Search everything that any controller of this run has written."""
    canaries = world.canaries
    recorder = world.recorder
    found = {
        text
        for secret in recorder.everything("Secret")
        for text in text_data(secret).values()
        if text in canaries
    }
    assert found, "no Secret with a canary was recorded"

    searched = 0
    for each in recorder.everything("SecretSync", "Event", "Lease", "SecretProviderClass"):
        assert [] == search(repr(each).encode(), canaries), each
        searched += 1
    for each in recorder.everything("Secret"):
        assert [] == search(repr(each["metadata"]).encode(), canaries), each["metadata"]
    assert searched > 30, "the recorder recorded little"
    for controller in world.controllers:
        assert controller.child.surroundings
        for text in (controller.child.surroundings, *(page.encode() for page in controller.pages)):
            assert [] == search(text, canaries), controller.pod
    allowed = [
        world.vault.data.folder,
        world.folder / "kubeconfigs",
        world.folder / "api" / "etcd",
        world.folder / "bao",
    ]
    assert [] == search_folder(world.folder, canaries, but=allowed)
    logs = b"".join(each.child.output.read_bytes() for each in world.controllers)
    assert None is VAULT_TOKEN.search(logs)
    assert b"AADSTS7000215" in logs, "the log reports the failures"
