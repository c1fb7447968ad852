"""Every identity mode and every stage that may refuse it: the message and its remedy."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from click.testing import CliRunner

from keyferry.errors import KeyferryError, Stage
from keyferry.net.http_client import HttpsClient
from keyferry.net.http_responses import ErrorResponse
from keyferry.providers.api import MountCall
from keyferry.providers.azure.auth.identity import Identity, profile
from keyferry.providers.azure.keyvault_errors import RequestContext, error_for_response
from keyferry.providers.azure.objects import ObjectRef, ObjectType
from keyferry.providers.azure.params import parse_mount
from keyferry.providers.azure.provider import AzureProvider
from keyferry.providers.known_fields.attributes import (
    POD_NAME,
    POD_NAMESPACE,
    SERVICE_ACCOUNT,
    SERVICE_ACCOUNT_TOKENS,
)
from keyferry_devvault.cli.server import devvault
from tests.fakes.app_certificate import SelfSignedCertificate, new_certificate
from tests.fakes.azure_mounts import mount_error
from tests.fakes.devvault import (
    DEFAULT_TENANT,
    CloseMidResponse,
    DevVault,
    RespondStatus,
    running_devvault,
)
from tests.fakes.resilience import uncached_fetcher

APP = "22222222-0000-4000-8000-000000000002"
ASSIGNED = "33333333-0000-4000-8000-000000000003"
MACHINE = "44444444-0000-4000-8000-000000000004"
VALUE = "canary-value"
SECRET = "canary-secret"
SUBJECT = "system:serviceaccount:shop:web"
EXCHANGE, BINDING = "api://AzureADTokenExchange", "api://AKSIdentityBinding"
ENTRA = "login.microsoftonline.com"
ISSUER = "https://kubernetes.default.svc.cluster.local"


@dataclass(frozen=True)
class Mode:
    """One identity mode.

    Attributes:
        parameters: what the class says.
        secrets: the keys of the Secret of the pod.
        client: the identity that the vault knows, for grants.
        who: how messages call it.
        assignee: how the remedy calls it for az.
        endpoint: where its tokens come from, for faults.
        place: how messages call that.
        stranger: what of the class is another identity's, so that the endpoint refuses it.
        refusal: what the message says then.
    """

    parameters: Mapping[str, str]
    client: str
    who: str
    assignee: str
    endpoint: str
    place: str
    refusal: str
    stranger: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()


UNKNOWN = "99999999-0000-4000-8000-000000000009"
CLIENT = f"client ID {APP}"
MODES = {
    "service principal": Mode(
        {}, APP, CLIENT, APP, ENTRA, ENTRA, "the client secret is wrong (AADSTS7000215)",
        {"clientsecret": "canary-wrong"}, ("clientid", "clientsecret"),
    ),
    "certificate": Mode(
        {}, APP, CLIENT, APP, ENTRA, ENTRA, "not registered, or has expired (AADSTS700027)",
        {"clientcertificate": "another"}, ("clientid", "clientcertificate"),
    ),
    "workload identity": Mode(
        {"clientID": APP}, APP, CLIENT, APP, ENTRA, ENTRA,
        f"has the subject {SUBJECT}-other (AADSTS700213)", {SERVICE_ACCOUNT: "web-other"},
    ),
    "user-assigned": Mode(
        {"useVMManagedIdentity": "true", "userAssignedIdentityID": ASSIGNED}, ASSIGNED,
        f"client ID {ASSIGNED}", ASSIGNED, "/metadata/identity", "169.254.169.254",
        f"client ID {UNKNOWN} is not assigned to this machine",
        {"userAssignedIdentityID": UNKNOWN},
    ),
    "system-assigned": Mode(
        {"useVMManagedIdentity": "true"}, MACHINE, "the system-assigned identity of this machine",
        "<the principal ID of this machine>", "/metadata/identity", "169.254.169.254",
        "this machine has no system-assigned managed identity", {"": "forget"},
    ),
    "pod identity": Mode(
        {"usePodIdentity": "true"}, ASSIGNED, "the identity of pod shop/web-0",
        "<the client ID of its AzureIdentity>", "/host/token", "localhost:2579",
        "refuses a token for the identity of pod shop/stranger", {POD_NAME: "stranger"},
    ),
    "identity binding": Mode(
        {"useAzureTokenProxy": "true", "clientID": ASSIGNED}, ASSIGNED, f"client ID {ASSIGNED}",
        ASSIGNED, "kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
        f"has the subject {SUBJECT}-other (AADSTS700213)", {SERVICE_ACCOUNT: "web-other"},
    ),
    "arc": Mode(
        {"useArcManagedIdentity": "true"}, MACHINE,
        "the system-assigned identity of this Azure Arc machine",
        "<the principal ID of this machine>", "/metadata/identity", "127.0.0.1:40342",
        "the Azure Arc agent refuses a token", {"": "forget"},
    ),
}  # fmt: skip
every_mode = pytest.mark.parametrize("mode", MODES.values(), ids=list(MODES))


class World:
    """A cloud in which every mode works, until a test removes something."""

    def __init__(
        self,
        vault: DevVault,
        provider: AzureProvider,
        certificates: tuple[SelfSignedCertificate, ...],
    ) -> None:
        self.vault = vault
        self._provider = provider
        self._certificates = certificates

    def call(self, mode: Mode, **entry: str) -> MountCall:
        """What kubelet asks for the pod shop/web-0."""
        wanted = {"objectName": "db", "objectType": "secret"} | entry
        changed = {key: text for key, text in mode.stranger.items() if self.is_stranger and key}
        account = changed.get(SERVICE_ACCOUNT, "web")
        attributes = {
            POD_NAME: "web-0",
            POD_NAMESPACE: "shop",
            SERVICE_ACCOUNT: account,
            SERVICE_ACCOUNT_TOKENS: self.vault.service_account_token(
                f"system:serviceaccount:shop:{account}", audience=(EXCHANGE, BINDING)
            ),
            "keyvaultName": "contoso",
            "tenantID": DEFAULT_TENANT,
            "objects": json.dumps({"array": [json.dumps(wanted)]}),
        }
        known = {
            "clientid": APP,
            "clientsecret": changed.get("clientsecret", SECRET),
            "clientcertificate": self._certificates["clientcertificate" in changed].pem(),
        }
        secrets = {key: known[key] for key in mode.secrets} or None
        return MountCall({**attributes, **mode.parameters, **changed}, secrets)

    is_stranger = False

    async def refused(self, mode: Mode, **entry: str) -> KeyferryError:
        """The error of a mount; it has a remedy, and no value is in it or behind it."""
        return await mount_error(self._provider, self.call(mode, **entry))

    async def works(self, mode: Mode) -> bool:
        """Whether the secret comes."""
        result = await self._provider.mount(self.call(mode))
        return [VALUE.encode()] == [file.contents for file in result.files]


@pytest.fixture(scope="module")
def certificates() -> tuple[SelfSignedCertificate, ...]:
    """One that Entra knows, and one that it does not."""
    return new_certificate(), new_certificate()


@pytest.fixture
async def world(
    tmp_path: Path, certificates: tuple[SelfSignedCertificate, ...]
) -> AsyncIterator[World]:
    async with running_devvault(tmp_path) as vault:
        vault.set_secret("contoso", "db", VALUE)
        vault.add_app(APP, tenant=DEFAULT_TENANT, secret=SECRET)
        vault.add_app_certificate(APP, certificates[0].certificate_pem)
        vault.federate(APP, subject=SUBJECT)
        vault.add_managed_identity(ASSIGNED)
        vault.assign_to_pods(ASSIGNED, namespace="shop", pod="web-*")
        vault.federate(ASSIGNED, subject=SUBJECT, audience=BINDING)
        vault.add_managed_identity(MACHINE, system_assigned=True)
        for client in (APP, ASSIGNED, MACHINE):
            vault.grant("contoso", client, "get", "list")
        provider = AzureProvider(
            HttpsClient(vault.emulator.https), uncached_fetcher(), emulator=vault.emulator
        )
        yield World(vault, provider, certificates)
        await provider.close()


async def run_command_of(remedy: str, stdin: str = "", **placeholders: str) -> None:
    """Run the last command of `keyferry devvault` that a remedy names."""
    command = re.split("keyferry devvault ", remedy)[-1].rstrip(".")
    words = [placeholders.get(word, word) for word in shlex.split(command)]
    result = await asyncio.to_thread(CliRunner().invoke, devvault, words, input=stdin)
    assert 0 == result.exit_code, (words, result.stderr)


async def test_every_mode_is_tested(world: World) -> None:
    """A new mode needs a row; one mode has two, with and without a client ID."""
    calls = [world.call(mode) for mode in MODES.values()]
    identities = [parse_mount(each.attributes, each.secrets).sources[0].identity for each in calls]
    assert set(Identity.__args__) == {type(each) for each in identities}
    assert [mode.who for mode in MODES.values()] == [profile(each).name for each in identities]


@every_mode
async def test_mode_works_without_failures(world: World, mode: Mode) -> None:
    """So each failure below has one cause."""
    assert await world.works(mode)


@every_mode
async def test_stage_identity_endpoint_refuses(
    world: World, mode: Mode, tmp_path: Path, certificates: tuple[SelfSignedCertificate, ...]
) -> None:
    """The message has the ID, the subject or the code, and the command of the remedy helps."""
    world.is_stranger = True
    if "" in mode.stranger:
        world.vault.data.identities.remove(MACHINE)
    error = await world.refused(mode)
    assert Stage.IDENTITY is error.stage
    assert mode.refusal in error.problem
    placeholders = {"CLIENT_ID": mode.client, "FILE": str(tmp_path / "stranger.pem")}
    (tmp_path / "stranger.pem").write_text(certificates[1].certificate_pem)
    stdin = mode.stranger.get("clientsecret", "")
    await run_command_of(error.remedy, stdin, **placeholders)
    if "is not assigned" in error.problem or "" in mode.stranger:
        who = mode.stranger.get("userAssignedIdentityID", "system")
        await run_command_of(
            f"keyferry devvault policy contoso {who} --allow get --data {world.vault.data.folder}"
        )
    assert await world.works(mode)


@every_mode
async def test_stage_identity_endpoint_is_busy(world: World, mode: Mode) -> None:
    """It is named, and the next mount tries again."""
    world.vault.add_fault(mode.endpoint, RespondStatus(503), times=None)
    error = await world.refused(mode)
    assert Stage.IDENTITY is error.stage
    assert "no token" in error.problem
    assert "503" in error.problem
    assert "tries again" in error.remedy


@every_mode
async def test_stage_connect_endpoint_closes_the_connection(world: World, mode: Mode) -> None:
    """The message names the identity and the endpoint."""
    world.vault.add_fault(mode.endpoint, CloseMidResponse(), times=None)
    error = await world.refused(mode)
    assert error.stage in (Stage.CONNECT, Stage.IDENTITY)
    assert mode.place in error.problem
    assert mode.who in error.problem


@every_mode
async def test_stage_vault_permission_is_missing(world: World, mode: Mode) -> None:
    """The command in the remedy names the identity, and it helps."""
    world.vault.revoke("contoso", mode.client)
    error = await world.refused(mode)
    assert Stage.VAULT is error.stage
    assert f"vault contoso does not let {mode.who} read secret db (403)" in error.problem
    await run_command_of(error.remedy, CLIENT_ID=mode.client)
    assert await world.works(mode)
    call = world.call(mode)
    identity = parse_mount(call.attributes, call.secrets).sources[0].identity
    context = RequestContext("contoso", DEFAULT_TENANT, f"https://{ENTRA}", identity)
    in_the_cloud = error_for_response(
        ErrorResponse(403, ("Forbidden",), ""), ObjectRef(ObjectType.SECRET, "db", ""), context
    )
    role = f'az role assignment create --role "Key Vault Secrets User" --assignee {mode.assignee}'
    assert role in in_the_cloud.remedy


@every_mode
async def test_stage_object_missing_or_disabled(world: World, mode: Mode) -> None:
    """Missing object, missing version, disabled version: three messages, in every mode."""
    missing = await world.refused(mode, objectName="nowhere")
    version = await world.refused(mode, objectVersion="0" * 32)
    world.vault.disable("contoso", "db")
    disabled = await world.refused(mode)
    assert [Stage.OBJECT] * 3 == [missing.stage, version.stage, disabled.stage]
    assert "secret nowhere does not exist in vault contoso" in missing.problem
    assert f"secret db version {'0' * 32} does not exist" in version.problem
    assert "secret db is disabled in vault contoso" in disabled.problem
