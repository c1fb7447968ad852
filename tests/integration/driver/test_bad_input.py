"""Everything that users and vaults get wrong, through real CSI calls, and what each is reported.

Each case says the status, the words that must be in the message (the stage, the object, the
remedy), and afterwards nothing is left. All messages are written to `.test-output/messages.txt`, to
be read.
"""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest

from keyferry.net.http_client import HttpsSettings
from keyferry.proto import csi_pb2 as csi
from keyferry.records import replace
from keyferry_devvault.client import DevRedirect
from keyferry_devvault.crypto.development_ca import CA_FILE, load_or_create_ca
from tests.fakes.azure_mounts import trusting_provider
from tests.fakes.devvault import (
    DEFAULT_TENANT,
    CloseMidResponse,
    DevVault,
    Hang,
    RespondStatus,
    running_devvault,
)
from tests.fakes.driver import Driver, running_driver
from tests.fakes.volume import layout_problems, read_through_links

MESSAGES = Path(__file__).parents[3] / ".test-output" / "messages.txt"
MI = "11111111-0000-4000-8000-000000000001"
APP = "22222222-0000-4000-8000-000000000002"
CANARY = "canary-value"
HOST = "contoso.vault.azure.net"
ENTRA = "login.microsoftonline.com"
UNKNOWN, INVALID = grpc.StatusCode.UNKNOWN, grpc.StatusCode.INVALID_ARGUMENT

Message = csi.NodePublishVolumeRequest


def entry(**fields: object) -> str:
    """One item of `array`."""
    return json.dumps({"objectName": "db-password", "objectType": "secret"} | fields)


def objects(*entries: str) -> dict[str, str]:
    """The parameter `objects` with these items."""
    return {"objects": "array:\n" + "".join(f"  - |\n    {item}\n" for item in entries)}


@dataclass(frozen=True)
class World:
    """What a case may change before the call."""

    driver: Driver
    vault: DevVault
    message: Message


@dataclass(frozen=True)
class Case:
    """One thing that goes wrong.

    Attributes:
        name: as the list of issue 2 calls it.
        words: parts of the message.
        code: of the status.
        parameters: of the class, over those of one that works; a value "" removes the key.
        provider: of the class.
        change: what else is different.
        https: how vaults are reached, from where the development vault listens.
    """

    name: str
    words: tuple[str, ...]
    code: grpc.StatusCode = UNKNOWN
    parameters: dict[str, str] = field(default_factory=dict)
    provider: str = "azure"
    change: Callable[[World], object] = lambda _: None
    https: Callable[[DevRedirect, Path], HttpsSettings] = lambda vault, _: vault.emulator().https


def clear(name: str) -> Callable[[World], None]:
    """The call lacks this field."""
    return lambda world: world.message.ClearField(name)


def fault(match: str, action: RespondStatus | CloseMidResponse | Hang) -> Callable[[World], None]:
    """The vault, or the token endpoint, does this for ever."""
    return lambda world: world.vault.add_fault(match, action, times=None)


def context(**fields: str) -> Callable[[World], None]:
    """The attributes of the volume say this."""
    return lambda world: world.message.volume_context.update(fields)


def as_principal(client_secret: str) -> Callable[[World], None]:
    """The pod has a nodePublishSecretRef."""
    return lambda world: world.message.secrets.update(
        {"clientid": APP, "clientsecret": client_secret}
    )


def not_read_only(world: World) -> None:
    """The pod forgot readOnly."""
    world.message.readonly = False


def stale_socket(world: World) -> None:
    """A provider was removed, but its socket remains."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(world.driver.home / "providers" / "removed.sock"))


def other_ca(vault: DevRedirect, folder: Path) -> HttpsSettings:
    """The certificate of the vault comes from a CA that is not trusted."""
    (folder / "other").mkdir()
    load_or_create_ca(folder / "other")
    return replace(vault, ca_file=folder / "other" / CA_FILE).emulator().https


def refusing(vault: DevRedirect, _: Path) -> HttpsSettings:
    """Nobody listens where the vault should be."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return replace(vault, https=("127.0.0.1", port)).emulator().https


def impatient(vault: DevRedirect, _: Path) -> HttpsSettings:
    """Waits a moment only."""
    return replace(vault.emulator().https, try_timeout=0.2)


def no_redirect(_: DevRedirect, __: Path) -> HttpsSettings:
    """Looks names up for real."""
    return HttpsSettings()


def unresolvable_cloud(world: World) -> None:
    """A private cloud whose names do not exist."""
    cloud = {
        "activeDirectoryEndpoint": "https://login.invalid/",
        "keyVaultEndpoint": "https://vault.invalid/",
        "keyVaultDNSSuffix": "vault.invalid",
    }
    path = world.driver.home / "cloud.json"
    path.write_text(json.dumps(cloud))
    as_principal(f"{CANARY}-client-secret")(world)
    context(cloudName="AzureStackCloud", cloudEnvFileName=str(path))(world)
    context(useVMManagedIdentity="false")(world)


BOMB = "a: &a [x, x]\n" + "".join(
    f"{new}: &{new} [*{old}, *{old}]\n" for old, new in zip("abcdefghij", "bcdefghijk", strict=True)
)

CASES = [
    Case(
        "class missing",
        ("failed to get secretproviderclass shop/nope", "not found", "namespace shop has: web"),
        change=context(secretProviderClass="nope"),
    ),
    Case(
        "class in the wrong namespace",
        ("failed to get secretproviderclass other/web", "not found", "shop"),
        change=context(**{"csi.storage.k8s.io/pod.namespace": "other"}),
    ),
    Case("no provider", ("shop/web", "spec.provider is empty", "Set spec.provider"), provider=""),
    Case(
        "unknown provider",
        ("provider 'azur' is not built in", "Available providers: azure"),
        provider="azur",
    ),
    Case(
        "provider socket missing",
        ("no aws.sock is in", "/providers", "install that provider"),
        provider="aws",
    ),
    Case(
        "provider socket dead",
        ("provider 'removed'", "no server listens on", "removed.sock", "provider's pod"),
        code=grpc.StatusCode.UNAVAILABLE,
        provider="removed",
        change=stale_socket,
    ),
    Case("target path missing", ("target_path is missing",), INVALID, change=clear("target_path")),
    Case(
        "volume not read-only", ("not read-only", "readOnly: true"), INVALID, change=not_read_only
    ),
    Case(
        "no secretProviderClass",
        ("volumeAttributes.secretProviderClass",),
        change=context(secretProviderClass=""),
    ),
    Case(
        "no vault name",
        ("keyvaultName is not provided", "Set it"),
        parameters={"keyvaultName": ""},
    ),
    Case(
        "no tenant",
        ("tenantId is not provided", "tenantID", "az account show"),
        parameters={"tenantID": ""},
    ),
    Case(
        "objects is no YAML",
        ("objects", "line 3", "Indent the lines below '- |'"),
        parameters={"objects": "array:\n  - |\n - objectName: x"},
    ),
    Case(
        "an entry of objects is no YAML",
        ("index 1", "line 6 of objects", "quotes"),
        parameters=objects(entry(), "objectName: [x"),
    ),
    Case("objects is missing", ("objects is not set",), parameters={"objects": ""}),
    Case("objects is empty", ("array",), parameters={"objects": "array: []"}),
    Case(
        "alias bomb",
        ("objects", "more than 10000 values, aliases expanded"),
        parameters={"objects": BOMB + "array: *k\n"},
    ),
    Case(
        "10 MiB of YAML",
        ("web.yaml is larger than 1048576 bytes",),
        parameters={"objects": "array:\n" + "  - x\n" * (10 * 1024 * 1024 // 6)},
    ),
    Case(
        "path traversal in alias",
        ("db-password", "must not contain '..'", "index 0", "objectAlias"),
        parameters=objects(entry(objectAlias="../../etc/passwd")),
    ),
    Case(
        "absolute path in alias",
        ("db-password", "must be a relative path", "Remove the leading '/'"),
        parameters=objects(entry(objectAlias="/etc/passwd")),
    ),
    Case(
        "two objects on one path",
        ("db-password", "objectAlias"),
        parameters=objects(entry(), entry(objectName="other", objectAlias="db-password")),
    ),
    Case(
        "bad permission",
        ("filePermission", "0999", "db-password"),
        parameters=objects(entry(filePermission="0999")),
    ),
    Case(
        "unknown type",
        ("objectType", "password", "secret"),
        parameters=objects(entry(objectType="password")),
    ),
    Case(
        "vault name that cannot be one",
        ('Invalid vault name: "https://contoso.vault.azure.net"', "name of the vault"),
        parameters={"keyvaultName": "https://contoso.vault.azure.net"},
    ),
    Case(
        "unknown cloud",
        ("AzureMoonCloud",),
        parameters={"cloudName": "AzureMoonCloud"},
    ),
    Case(
        "DNS failure",
        ("login.invalid could not be resolved", "getent hosts"),
        change=unresolvable_cloud,
        https=no_redirect,
    ),
    Case(
        "connection refused",
        (f"{HOST} could not be reached (connection refused)", "Nothing listens there"),
        https=refusing,
    ),
    Case(
        "TLS failure",
        (f"the TLS certificate of {HOST} is not accepted", "issuer", "SSL_CERT_FILE"),
        https=other_ca,
    ),
    Case(
        "401",
        ("vault contoso does not accept the token (401)", "tenantID"),
        change=fault(HOST, RespondStatus(401)),
    ),
    Case(
        "403",
        ("vault contoso does not let client ID", "secret db-password", "az role assignment create"),
        change=lambda world: world.vault.revoke("contoso", MI),
    ),
    Case(
        "404",
        ("secret nope", "does not exist in vault contoso", "az keyvault secret list"),
        parameters=objects(entry(objectName="nope")),
    ),
    Case(
        "404 for a version",
        ("secret db-password version deadbeef does not exist", "az keyvault secret list-versions"),
        parameters=objects(entry(objectVersion="deadbeef")),
    ),
    Case(
        "no such vault",
        ("there is no vault nowhere", "keyvaultName"),
        parameters={"keyvaultName": "nowhere"},
    ),
    Case(
        "disabled version",
        ("secret db-password is disabled", "az keyvault secret set-attributes"),
        change=lambda world: world.vault.disable("contoso", "db-password"),
    ),
    Case(
        "value that is no base64",
        ("db-password", "base64"),
        parameters=objects(entry(objectEncoding="base64")),
    ),
    Case(
        "429 with a Retry-After that is too long",
        (HOST, "429", "throttles requests", "fewer objects"),
        change=fault(HOST, RespondStatus(429, retry_after=300)),
    ),
    Case(
        "500 for ever",
        (HOST, "status 500", "health of the vault"),
        change=fault(HOST, RespondStatus(500)),
    ),
    Case(
        "time-out",
        (f"{HOST} did not answer in time", "health"),
        change=fault(HOST, Hang()),
        https=impatient,
    ),
    Case(
        "vault closing the connection half way",
        (f"{HOST} closed the connection before its response was complete",),
        change=fault(HOST, CloseMidResponse()),
    ),
    Case(
        "answer without a value",
        ("db-password", "secret value is nil", "no proxy responds"),
        change=fault(HOST, RespondStatus(200)),
    ),
    Case(
        "client secret that is wrong",
        ("the client secret is wrong", "AADSTS7000215", "az ad app credential reset"),
        parameters={"useVMManagedIdentity": "false"},
        change=as_principal(f"{CANARY}-wrong"),
    ),
    Case(
        "no credentials at all",
        ("nodePublishSecretRef", "clientID", "useVMManagedIdentity"),
        parameters={"useVMManagedIdentity": "false"},
    ),
    Case(
        "identity that is not of this machine",
        ("is not assigned to this machine", "az vm identity assign"),
        parameters={"userAssignedIdentityID": "33333333-0000-4000-8000-000000000003"},
    ),
    Case(
        "two identity modes",
        ("only one identity mode", "usePodIdentity and useVMManagedIdentity"),
        parameters={"usePodIdentity": "true"},
    ),
    Case(
        "switch that is no boolean",
        ("useVMManagedIdentity", "yes", 'Write "true" or "false"'),
        parameters={"useVMManagedIdentity": "yes"},
    ),
]

PARAMETERS = {
    "keyvaultName": "contoso",
    "tenantID": DEFAULT_TENANT,
    "useVMManagedIdentity": "true",
    "userAssignedIdentityID": MI,
    **objects(entry()),
}


@pytest.fixture(scope="module")
def messages() -> Iterator[dict[str, str]]:
    """What users are reported, written to a file when all cases are through."""
    reported: dict[str, str] = {}
    yield reported
    MESSAGES.parent.mkdir(exist_ok=True)
    MESSAGES.write_text("".join(f"{name}\n    {reported[name]}\n\n" for name in reported))


@asynccontextmanager
async def world_of(case: Case, home: Path) -> AsyncIterator[World]:
    """A driver, a vault and a call, all in order but for what the case changes."""
    async with AsyncExitStack() as stack:
        vault = await stack.enter_async_context(running_devvault(home))
        vault.set_secret("contoso", "db-password", CANARY)
        vault.add_managed_identity(MI, tenant=DEFAULT_TENANT)
        vault.add_app(APP, tenant=DEFAULT_TENANT, secret=f"{CANARY}-client-secret")
        vault.grant("contoso", MI)
        # Without an emulator, so that the messages are those of the cloud.
        provider = trusting_provider(case.https(vault.redirect, home), None)
        (home / "providers").mkdir()
        driver = await stack.enter_async_context(
            running_driver(
                home,
                built_in={"azure": provider},
                socket_folders=[home / "providers"],
                rotation_interval=60,
            )
        )
        parameters = {k: v for k, v in (PARAMETERS | case.parameters).items() if v}
        driver.write_class("web", provider=case.provider, parameters=parameters)
        yield World(driver, vault, driver.publish_request("web"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_bad_input_fails_with_stage_object_and_remedy(
    case: Case, mount_home: Path, messages: dict[str, str]
) -> None:
    """Status and message of the table; nothing is left, no value is logged."""
    async with world_of(case, mount_home) as world:
        case.change(world)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await world.driver.send_publish(world.message)
        reported = caught.value.details() or ""
        messages[case.name] = f"[{caught.value.code().name}] {reported}"
        assert [] == [words for words in case.words if words not in reported]
        assert case.code == caught.value.code()
        assert [] == world.driver.leftovers()
        assert ". " in reported or case.code is INVALID
        assert "\n" not in reported
        assert len(reported) < 1000
        assert CANARY not in reported + world.driver.log.getvalue() + str(world.driver.events())


VAULT_CASES = [
    case
    for case in CASES
    if case.name
    in {
        "401",
        "403",
        "disabled version",
        "429 with a Retry-After that is too long",
        "500 for ever",
        "vault closing the connection half way",
        "answer without a value",
    }
]


@pytest.mark.parametrize("case", VAULT_CASES, ids=lambda case: case.name)
async def test_vault_failure_during_a_refresh_retains_previous_content(
    case: Case, mount_home: Path
) -> None:
    """Kubelet gets OK; the event has the same message as a failed first mount."""
    async with world_of(case, mount_home) as world:
        target = await world.driver.publish("web")
        case.change(world)
        world.vault.set_secret(
            "contoso", "db-password", f"{CANARY}-2", enabled="disabled" not in case.name
        )
        world.driver.clock.now = 60
        await world.driver.publish("web")
        assert {"db-password": CANARY.encode()} == read_through_links(target)
        assert [] == layout_problems(target)
        ((kind, reason, reported),) = world.driver.events()
        assert ("Warning", "MountRotationFailed") == (kind, reason)
        assert [] == [words for words in case.words if words not in reported]
        assert CANARY not in reported + world.driver.log.getvalue()


async def test_transient_vault_failure_is_retried(mount_home: Path) -> None:
    """429 with Retry-After, 500, and a connection closed half way."""
    case = Case("recovers", ())
    async with world_of(case, mount_home) as world:
        for action in (RespondStatus(429, retry_after=2), RespondStatus(500), CloseMidResponse()):
            world.vault.add_fault(HOST, action, times=1)
        target = await world.driver.publish("web")
        assert {"db-password": CANARY.encode()} == read_through_links(target)
        assert [] == world.driver.events()


async def test_new_version_arrives_in_file_and_pod_status(mount_home: Path) -> None:
    """With the real provider over the real socket."""
    async with world_of(Case("good", ()), mount_home) as world:
        target = await world.driver.publish("web")
        version = world.vault.set_secret("contoso", "db-password", f"{CANARY}-2")
        world.driver.clock.now = 60
        await world.driver.publish("web")
        assert {"db-password": f"{CANARY}-2".encode()} == read_through_links(target)
        assert {"secret/db-password": version} == await world.driver.objects_in_status("web")
        await world.driver.unpublish()
        assert [] == world.driver.leftovers()
