"""keyferry.azure against the development vault: every identity mode, and everything that fails."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from keyferry.azure.clouds import CLOUDS
from keyferry.azure.identity import Credentials, Login
from keyferry.azure.modes import ServicePrincipal, VmManagedIdentity
from keyferry.azure.provider import AzureProvider
from keyferry.contract import (
    POD_NAME,
    POD_NAMESPACE,
    SERVICE_ACCOUNT,
    SERVICE_ACCOUNT_TOKENS,
    MountCall,
    MountResult,
    ObjectVersion,
    SecretFile,
)
from keyferry.devvault.exchange import PathKind
from keyferry.errors import (
    AccessDeniedError,
    ClassInvalidError,
    Code,
    ConnectionFailedError,
    Hop,
    IdentityError,
    KeyferryError,
    ObjectNotFoundError,
    ObjectUnusableError,
    VaultError,
    VaultThrottledError,
)
from keyferry.https import DevRedirect, HttpsClient, HttpsSettings
from tests.fakes.clock import StillClock
from tests.fakes.devvault import (
    DEFAULT_TENANT,
    CloseHalfWay,
    DevVault,
    Hang,
    RespondStatus,
    running_devvault,
)
from tests.fakes.economy import forgetful

MI = "11111111-0000-4000-8000-000000000001"
APP = "22222222-0000-4000-8000-000000000002"
STRANGER = "33333333-0000-4000-8000-000000000003"
CLIENT_SECRET = "canary-client-secret"
VALUE = "canary-value"
SUBJECT = "system:serviceaccount:shop:web"
VAULT = "contoso.vault.azure.net"
ENTRA = "login.microsoftonline.com"

VM = {"useVMManagedIdentity": "true", "userAssignedIdentityID": MI}
PRINCIPAL = {"clientid": APP, "clientsecret": CLIENT_SECRET}
STACK = json.dumps(
    {
        "name": "AzureStackCloud",
        "activeDirectoryEndpoint": "https://login.microsoftonline.com/",
        "keyVaultEndpoint": "https://vault.azure.net/",
        "keyVaultDNSSuffix": "vault.azure.net",
    }
)


@pytest.fixture
async def vault(tmp_path: Path) -> AsyncIterator[DevVault]:
    """A vault `contoso` that holds `db-password` and lets MI and APP read."""
    async with running_devvault(tmp_path) as running:
        running.set_secret("contoso", "db-password", VALUE)
        running.add_managed_identity(MI, tenant=DEFAULT_TENANT)
        running.add_app(APP, tenant=DEFAULT_TENANT, secret=CLIENT_SECRET)
        running.federate(APP, subject=SUBJECT)
        running.grant("contoso", MI)
        running.grant("contoso", APP)
        yield running


@pytest.fixture
def clock() -> StillClock:
    """Pauses that take no time."""
    return StillClock()


@asynccontextmanager
async def provider_for(settings: HttpsSettings, clock: StillClock) -> AsyncIterator[AzureProvider]:
    """A provider that is closed at the end."""
    made = AzureProvider(HttpsClient(settings, wall=clock.epoch), forgetful(clock))
    try:
        yield made
    finally:
        await made.close()


@pytest.fixture
async def provider(vault: DevVault, clock: StillClock) -> AsyncIterator[AzureProvider]:
    """The provider, redirected to the vault."""
    async with provider_for(HttpsSettings(dev=vault.redirect), clock) as made:
        yield made


def entry(name: str = "db-password", **fields: str) -> str:
    """One item of `objects`."""
    return json.dumps({"objectName": name, "objectType": "secret"} | fields)


def call(
    parameters: dict[str, str], *entries: str, secrets: dict[str, str] | None = None
) -> MountCall:
    """A call for a pod of the service account shop/web."""
    base = {
        POD_NAME: "web-0",
        POD_NAMESPACE: "shop",
        SERVICE_ACCOUNT: "web",
        "keyvaultName": "contoso",
        "tenantID": DEFAULT_TENANT,
        "objects": json.dumps({"array": entries or (entry(),)}),
    }
    return MountCall(base | parameters, secrets)


def workload(vault: DevVault, subject: str = SUBJECT, lifetime: int = 3600) -> dict[str, str]:
    """The parameters of workload identity with a fresh token."""
    token = vault.service_account_token(subject, lifetime_seconds=lifetime)
    return {"clientID": APP, SERVICE_ACCOUNT_TOKENS: token}


async def failure(provider: AzureProvider, wanted: MountCall) -> KeyferryError:
    """The error that a mount ends with: upstream's prefix, gRPC code UNKNOWN, no value in it."""
    with pytest.raises(KeyferryError) as caught:
        await provider.mount(wanted)
    error: BaseException | None = caught.value
    while error is not None:
        assert "canary" not in str(error)
        error = error.__cause__
    assert caught.value.problem.startswith("failed to mount objects, error: ")
    assert caught.value.code == Code.UNKNOWN
    assert caught.value.remedy
    return caught.value


# --- what works ------------------------------------------------------------------------------


async def test_a_secret_becomes_a_file(vault: DevVault, provider: AzureProvider) -> None:
    """The path is the alias, the id the object's own name, the mode what the class says."""
    version = vault.set_secret("contoso", "db-password", "new")
    wanted = call(VM, entry(objectAlias="SECRET_1", filePermission="0640"))
    assert await provider.mount(wanted) == MountResult(
        (ObjectVersion("secret/db-password", version),),
        (SecretFile("SECRET_1", 0o640, b"new"),),
    )


async def test_every_identity_mode_reads(vault: DevVault, provider: AzureProvider) -> None:
    """User-assigned, system-assigned, service principal, workload identity."""
    vault.add_managed_identity(STRANGER, system_assigned=True)
    vault.grant("contoso", STRANGER)
    calls = [
        call(VM),
        call({"useVMManagedIdentity": "true"}),
        call({}, secrets=PRINCIPAL),
        call(workload(vault)),
    ]
    for wanted in calls:
        result = await provider.mount(wanted)
        assert [file.contents for file in result.files] == [VALUE.encode()]


async def test_a_requested_version_is_the_one_that_comes(
    vault: DevVault, provider: AzureProvider
) -> None:
    """Others are left alone."""
    old = vault.set_secret("contoso", "db-password", "old")
    vault.set_secret("contoso", "db-password", "new")
    result = await provider.mount(call(VM, entry(objectVersion=old)))
    assert result == MountResult(
        (ObjectVersion("secret/db-password", old),), (SecretFile("db-password", 0o644, b"old"),)
    )


async def test_encodings_are_undone(vault: DevVault, provider: AzureProvider) -> None:
    """base64 and hex become bytes, everything else stays."""
    vault.set_secret("contoso", "b", "QmFzZTY0RW5jb2RlZFN0cmluZw==")
    vault.set_secret("contoso", "h", "486578456E636F646564537472696E67")
    wanted = call(
        VM,
        entry("b", objectEncoding="base64"),
        entry("h", objectEncoding="HEX"),
        entry("b", objectAlias="raw"),
    )
    result = await provider.mount(wanted)
    assert [file.contents for file in result.files] == [
        b"Base64EncodedString",
        b"HexEncodedString",
        b"QmFzZTY0RW5jb2RlZFN0cmluZw==",
    ]


async def test_files_come_in_the_order_of_the_class(
    vault: DevVault, provider: AzureProvider
) -> None:
    """However the answers race."""
    names = [f"secret-{number}" for number in range(30)]
    for name in names:
        vault.set_secret("contoso", name, name)
    result = await provider.mount(call(VM, *map(entry, names)))
    assert [file.path for file in result.files] == names
    assert [file.contents.decode() for file in result.files] == names


async def test_one_object_in_two_files_is_fetched_once(
    vault: DevVault, provider: AzureProvider
) -> None:
    """Two aliases, one call."""
    await provider.mount(call(VM, entry(), entry(objectAlias="b")))
    assert vault.count(PathKind.SECRET) == 1


async def test_a_slow_object_does_not_hold_up_the_others(
    vault: DevVault, provider: AzureProvider
) -> None:
    """All are fetched at the same time: nine answers come while the first is still awaited."""
    names = [f"s{number}" for number in range(10)]
    for name in names:
        vault.set_secret("contoso", name, "x")
    vault.add_fault(f"{VAULT}/secrets/s0", Hang(), times=None)
    running = asyncio.create_task(provider.mount(call(VM, *map(entry, names))))
    try:
        while vault.count(PathKind.SECRET, status=200) < 9:
            assert not running.done()
            await asyncio.sleep(0.01)
    finally:
        running.cancel()
        await asyncio.wait([running])
    assert running.cancelled()


async def test_other_clouds_have_their_own_hosts(vault: DevVault, provider: AzureProvider) -> None:
    """A vault of the US government cloud, with a token of its authority."""
    result = await provider.mount(call({"cloudName": "AzureUSGovernmentCloud"}, secrets=PRINCIPAL))
    assert [file.contents for file in result.files] == [VALUE.encode()]
    hosts = {record.host for record in vault.requests}
    assert hosts == {"contoso.vault.usgovcloudapi.net", "login.microsoftonline.us"}


async def test_azure_stack_is_read_from_its_file(
    vault: DevVault, provider: AzureProvider, tmp_path: Path
) -> None:
    """The file is read anew at each mount."""
    path = tmp_path / "cloud.json"
    stack = {"cloudName": "AzureStackCloud", "cloudEnvFileName": str(path)} | VM
    error = await failure(provider, call(stack))
    assert f"open {path}: No such file or directory" in error.problem
    path.write_text(STACK)
    assert (await provider.mount(call(stack))).files[0].contents == VALUE.encode()


async def test_mounts_of_different_clouds_run_side_by_side(
    vault: DevVault, provider: AzureProvider, tmp_path: Path
) -> None:
    """Two files and every known cloud at once; the environment, which upstream changes, stays."""
    hosts = {cloud.name: cloud.vault_host("contoso") for cloud in CLOUDS}
    calls = [call({"cloudName": name}, secrets=PRINCIPAL) for name in hosts]
    for number, suffix in enumerate(("vault.azure.net", "vault.usgovcloudapi.net")):
        path = tmp_path / f"{number}.json"
        path.write_text(STACK.replace("vault.azure.net", suffix))
        calls.append(call({"cloudName": "AzureStackCloud", "cloudEnvFileName": str(path)} | VM))
    before = dict(os.environ)

    results = await asyncio.gather(*map(provider.mount, calls))

    assert {VALUE.encode()} == {file.contents for result in results for file in result.files}
    asked = {record.host for record in vault.requests if record.kind is PathKind.SECRET}
    assert set(hosts.values()) == asked
    assert before == dict(os.environ)


async def test_a_cloud_file_that_is_no_file_does_not_hold_us_up(
    provider: AzureProvider, tmp_path: Path
) -> None:
    """The class may name anything: a device, a pipe that nobody writes to, a folder, nonsense."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path, words in {
        "/dev/zero": "not a regular file",
        str(pipe): "not a regular file",
        "/": "Is a directory",
        "/proc/self/environ\0": "not a path",
    }.items():
        stack = {"cloudName": "AzureStackCloud", "cloudEnvFileName": path} | VM
        error = await failure(provider, call(stack))
        assert isinstance(error, ClassInvalidError)
        assert words in error.problem


async def test_only_the_beginning_of_a_cloud_file_is_read(
    provider: AzureProvider, tmp_path: Path
) -> None:
    """64 KiB are more than any cloud needs."""
    path = tmp_path / "cloud.json"
    path.write_text(" " * (1 << 16) + STACK)
    stack = {"cloudName": "AzureStackCloud", "cloudEnvFileName": str(path)} | VM
    error = await failure(provider, call(stack))
    assert "it is not a JSON object with the keys of a cloud" in error.problem


async def test_the_version_is_told(provider: AzureProvider) -> None:
    """The protocol's version and upstream's name."""
    version = await provider.version()
    assert version.api_version == "v1alpha1"
    assert version.runtime_name == "secrets-store-csi-driver-provider-azure"


# --- tokens ----------------------------------------------------------------------------------


async def test_concurrent_mounts_of_one_identity_ask_for_one_token(
    vault: DevVault, provider: AzureProvider
) -> None:
    """And later ones use it too."""
    await asyncio.gather(*(provider.mount(call({}, secrets=PRINCIPAL)) for _ in range(20)))
    await provider.mount(call({}, secrets=PRINCIPAL))
    assert vault.count(PathKind.TOKEN) == 1


async def test_pods_of_one_service_account_share_one_token(
    vault: DevVault, provider: AzureProvider
) -> None:
    """Each has its own service-account token; what it proves is the same."""
    for lifetime in (3600, 3700, 3800):
        await provider.mount(call(workload(vault, lifetime=lifetime)))
    assert vault.count(PathKind.TOKEN) == 1


async def test_pods_of_two_service_accounts_never_share_a_token(
    vault: DevVault, provider: AzureProvider
) -> None:
    """The second is refused, although the first has a token of the same client."""
    await provider.mount(call(workload(vault)))
    other = workload(vault, "system:serviceaccount:shop:other")
    error = await failure(provider, call(other | {SERVICE_ACCOUNT: "other"}))
    assert "(AADSTS700213)" in error.problem


async def test_a_wrong_client_secret_never_gets_the_token_of_the_right_one(
    vault: DevVault, provider: AzureProvider
) -> None:
    """The secret is part of the identity."""
    await provider.mount(call({}, secrets=PRINCIPAL))
    error = await failure(provider, call({}, secrets=PRINCIPAL | {"clientsecret": "canary-x"}))
    assert "(AADSTS7000215)" in error.problem


async def test_a_changed_client_secret_counts_at_once(
    vault: DevVault, provider: AzureProvider
) -> None:
    """No cache stands in its way."""
    await failure(provider, call({}, secrets=PRINCIPAL | {"clientsecret": "canary-new"}))
    vault.add_app(APP, secret="canary-new")
    await provider.mount(call({}, secrets=PRINCIPAL | {"clientsecret": "canary-new"}))


async def test_mounts_that_share_a_refusal_are_told_each_for_itself(
    vault: DevVault, provider: AzureProvider
) -> None:
    """One request failed for all of them; the prefix of each message stands there once."""
    wanted = call({}, secrets=PRINCIPAL | {"clientsecret": "canary-x"})
    errors = await asyncio.gather(*(failure(provider, wanted) for _ in range(3)))
    assert vault.count(PathKind.TOKEN) == 1
    assert {error.problem.count("failed to mount objects") for error in errors} == {1}


async def test_the_longest_unused_credential_goes_first(vault: DevVault) -> None:
    """The number of identities on a node is bounded."""
    client = HttpsClient(HttpsSettings(dev=vault.redirect))
    credentials = Credentials(client, forgetful(), limit=2)
    app, machine = ServicePrincipal(APP, CLIENT_SECRET), VmManagedIdentity(MI)
    vault.add_app(STRANGER, secret=CLIENT_SECRET)
    stranger = ServicePrincipal(STRANGER, CLIENT_SECRET)
    try:
        for identity in (app, machine, app, stranger, app, machine):
            await credentials.tokens(Login(identity, DEFAULT_TENANT, CLOUDS[0])).token()
    finally:
        await credentials.close()
        await client.close()
    assert (vault.count(PathKind.TOKEN), vault.count(PathKind.IMDS)) == (2, 2)


async def test_a_fresh_service_account_token_counts_at_once(
    vault: DevVault, provider: AzureProvider
) -> None:
    """The expired one of another pod does not fail the mount that has a good one."""
    stale, fresh = call(workload(vault, lifetime=-60)), call(workload(vault))
    error = await failure(provider, stale)
    assert "(AADSTS700024)" in error.problem
    results = await asyncio.gather(
        provider.mount(stale), provider.mount(fresh), return_exceptions=True
    )
    assert isinstance(results[1], MountResult)


async def test_a_token_that_the_vault_refuses_is_renewed_once(
    vault: DevVault, provider: AzureProvider
) -> None:
    """The cached one may have been revoked."""
    await provider.mount(call({}, secrets=PRINCIPAL))
    vault.add_fault(VAULT, RespondStatus(401))
    await provider.mount(call({}, secrets=PRINCIPAL))
    assert vault.count(PathKind.TOKEN) == 2


async def test_many_refusals_of_one_token_renew_it_once(
    vault: DevVault, provider: AzureProvider
) -> None:
    """Ten objects meet the same 401."""
    names = [f"s{number}" for number in range(10)]
    for name in names:
        vault.set_secret("contoso", name, "x")
    await provider.mount(call({}, secrets=PRINCIPAL))
    vault.tune(latency_seconds=0.02)
    vault.add_fault(VAULT, RespondStatus(401), times=10)
    await provider.mount(call({}, *map(entry, names), secrets=PRINCIPAL))
    await provider.mount(call({}, secrets=PRINCIPAL))
    assert vault.count(PathKind.TOKEN) == 2


async def test_a_cancelled_mount_does_not_take_the_token_from_the_others(
    vault: DevVault, provider: AzureProvider
) -> None:
    """The first one asked for it, the second one waits for it."""
    vault.tune(latency_seconds=0.05)
    first = asyncio.create_task(provider.mount(call({}, secrets=PRINCIPAL)))
    second = asyncio.create_task(provider.mount(call({}, secrets=PRINCIPAL)))
    await asyncio.sleep(0)
    first.cancel()
    assert isinstance(await second, MountResult)
    assert first.cancelled()
    assert vault.count(PathKind.TOKEN) == 1


# --- what fails ------------------------------------------------------------------------------


async def test_missing_objects_are_all_named(vault: DevVault, provider: AzureProvider) -> None:
    """The first one in full, as upstream words it, the others by name; nothing is delivered."""
    error = await failure(provider, call(VM, entry("a"), entry(), entry("b"), entry("c")))
    assert isinstance(error, ObjectNotFoundError)
    assert error.problem == (
        "failed to mount objects, error: failed to get objectType:secret, objectName:a, "
        "objectVersion:: secret a does not exist in vault contoso; also failed: secret b, secret c"
    )


async def test_many_failures_are_counted(provider: AzureProvider) -> None:
    """A message stays readable."""
    error = await failure(provider, call(VM, *(entry(f"s{n}") for n in range(20))))
    assert error.problem.endswith("secret s9, secret s10 and 9 more")


async def test_a_missing_version_is_an_error(provider: AzureProvider) -> None:
    """Named with its version."""
    error = await failure(provider, call(VM, entry(objectVersion="f" * 32)))
    assert isinstance(error, ObjectNotFoundError)
    assert f"secret db-password version {'f' * 32} does not exist" in error.problem


async def test_a_disabled_version_is_told_apart(vault: DevVault, provider: AzureProvider) -> None:
    """403 as for a missing permission, with another remedy."""
    vault.disable("contoso", "db-password")
    error = await failure(provider, call(VM))
    assert (type(error), error.hop) == (ObjectNotFoundError, Hop.OBJECT)
    assert "is disabled in vault contoso" in error.problem


async def test_a_missing_permission_names_client_and_command(
    vault: DevVault, provider: AzureProvider
) -> None:
    """What to grant to whom."""
    vault.revoke("contoso", MI)
    error = await failure(provider, call(VM))
    assert isinstance(error, AccessDeniedError)
    assert f"does not let client id {MI} read secret db-password (403)" in error.problem
    assert "az keyvault set-policy --name contoso" in error.remedy


async def test_a_token_of_the_wrong_tenant_is_refused_with_both_names(
    vault: DevVault, provider: AzureProvider
) -> None:
    """The class names a tenant that is not the vault's."""
    other = "99999999-2222-4333-8444-555555555555"
    vault.add_app(STRANGER, tenant=other, secret=CLIENT_SECRET)
    secrets = {"clientid": STRANGER, "clientsecret": CLIENT_SECRET}
    error = await failure(provider, call({"tenantID": other}, secrets=secrets))
    assert isinstance(error, AccessDeniedError)
    assert f"it trusts https://{ENTRA}/{DEFAULT_TENANT}" in error.problem
    assert f"comes from https://{ENTRA}/{other}" in error.problem


async def test_an_unknown_vault_is_said_so(provider: AzureProvider) -> None:
    """A real one would not resolve."""
    error = await failure(provider, call(VM | {"keyvaultName": "fabrikam"}))
    assert "there is no vault fabrikam" in error.problem


async def test_a_value_of_the_wrong_encoding_is_not_delivered(
    vault: DevVault, provider: AzureProvider
) -> None:
    """Named by its object, never by its content."""
    error = await failure(provider, call(VM, entry(objectEncoding="base64")))
    assert isinstance(error, ObjectUnusableError)
    assert "objectName:db-password" in error.problem
    assert "the value is not base64" in error.problem


async def test_throttling_is_waited_out(
    vault: DevVault, provider: AzureProvider, clock: StillClock
) -> None:
    """Retry-After is obeyed to the second."""
    vault.add_fault(VAULT, RespondStatus(429, retry_after=7))
    await provider.mount(call(VM))
    assert clock.pauses == [7.0]


async def test_throttling_longer_than_a_mount_may_take_is_said_at_once(
    vault: DevVault, provider: AzureProvider, clock: StillClock
) -> None:
    """With the pause that was asked for."""
    vault.add_fault(VAULT, RespondStatus(429, retry_after=900))
    error = await failure(provider, call(VM))
    assert isinstance(error, VaultThrottledError)
    assert error.retry_after == 900.0
    assert "asks to wait 900 s" in error.problem
    assert clock.pauses == []


async def test_a_500_and_then_success_is_a_success(
    vault: DevVault, provider: AzureProvider
) -> None:
    """One failure of the vault is not one of the mount."""
    vault.add_fault(VAULT, RespondStatus(500))
    assert (await provider.mount(call(VM))).files[0].contents == VALUE.encode()


async def test_a_vault_that_goes_on_failing_is_an_error(
    vault: DevVault, provider: AzureProvider
) -> None:
    """After four tries."""
    vault.add_fault(VAULT, RespondStatus(500), times=None)
    error = await failure(provider, call(VM))
    assert isinstance(error, VaultError)
    assert f"{VAULT} failed with status 500 (4 tries)" in error.problem


async def test_a_connection_closed_half_way_is_tried_again(
    vault: DevVault, provider: AzureProvider
) -> None:
    """And an error when it goes on."""
    vault.add_fault(VAULT, CloseHalfWay())
    assert (await provider.mount(call(VM))).files[0].contents == VALUE.encode()
    vault.add_fault(VAULT, CloseHalfWay(), times=None)
    error = await failure(provider, call(VM))
    assert (type(error), error.hop) == (ConnectionFailedError, Hop.CONNECT)
    assert f"{VAULT} closed the connection before its answer was whole" in error.problem


async def test_a_vault_that_does_not_answer_is_a_time_out(
    vault: DevVault, clock: StillClock
) -> None:
    """Each try is limited."""
    settings = HttpsSettings(dev=vault.redirect, try_timeout=0.2)
    vault.add_fault(VAULT, Hang(), times=None)
    async with provider_for(settings, clock) as provider:
        error = await failure(provider, call(VM))
    assert (type(error), error.hop) == (ConnectionFailedError, Hop.CONNECT)
    assert f"{VAULT} did not answer in time (4 tries)" in error.problem


@pytest.mark.parametrize(
    ("parameters", "code", "words"),
    [
        (
            {"tenantID": "99999999-0000-4000-8000-000000000000"},
            90002,
            "does not exist in this cloud",
        ),
        ({"clientID": STRANGER}, 700016, "has no such application"),
        ({"clientID": MI}, 700211, "has the issuer https://kubernetes.default.svc"),
    ],
)
async def test_entra_refuses_and_the_code_is_explained(
    vault: DevVault,
    provider: AzureProvider,
    parameters: dict[str, str],
    code: int,
    words: str,
) -> None:
    """One sentence, the number, and what mends it."""
    error = await failure(provider, call(workload(vault) | parameters))
    assert isinstance(error, IdentityError)
    assert words in error.problem
    assert f"(AADSTS{code})" in error.problem
    assert error.__cause__ is None


async def test_a_service_account_token_with_a_broken_signature_is_refused(
    vault: DevVault, provider: AzureProvider
) -> None:
    """Whatever it says of itself."""
    tokens = json.loads(vault.service_account_token(SUBJECT))
    token = tokens["api://AzureADTokenExchange"]
    token["token"] = token["token"][:-40] + "A" * 40
    parameters = {"clientID": APP, SERVICE_ACCOUNT_TOKENS: json.dumps(tokens)}
    error = await failure(provider, call(parameters))
    assert isinstance(error, IdentityError)
    assert "AADSTS" in error.problem


@pytest.mark.parametrize(
    ("client_id", "words"),
    [
        (
            STRANGER,
            f"the managed identity with client id {STRANGER} is not assigned to this machine",
        ),
        ("", "this machine has no system-assigned managed identity"),
    ],
)
async def test_imds_has_no_such_identity(
    provider: AzureProvider, client_id: str, words: str
) -> None:
    """Assigned or switched on by an az command."""
    error = await failure(provider, call(VM | {"userAssignedIdentityID": client_id}))
    assert isinstance(error, IdentityError)
    assert words in error.problem
    assert "az vm identity assign" in error.remedy


async def test_an_imds_that_starts_is_waited_for(vault: DevVault, provider: AzureProvider) -> None:
    """410 while it is updated."""
    vault.add_fault("/metadata", RespondStatus(410))
    assert (await provider.mount(call(VM))).files[0].contents == VALUE.encode()


async def test_a_machine_without_imds_is_told_in_one_try(
    vault: DevVault, clock: StillClock
) -> None:
    """Seconds, not minutes, and the question whether this is an Azure VM."""
    closed = ("127.0.0.1", _closed_port())
    dev = DevRedirect(vault.redirect.https, closed, vault.redirect.ca_file)
    async with provider_for(HttpsSettings(dev=dev), clock) as provider:
        error = await failure(provider, call(VM))
    assert (type(error), error.hop) == (ConnectionFailedError, Hop.CONNECT)
    assert "this machine has no IMDS" in error.problem
    assert "Are you on an Azure VM?" in error.remedy
    assert clock.pauses == []


async def test_an_entra_that_fails_is_tried_again(
    vault: DevVault, provider: AzureProvider, clock: StillClock
) -> None:
    """With the pause it asks for."""
    vault.add_fault(ENTRA, RespondStatus(503, retry_after=2))
    vault.add_fault(ENTRA, CloseHalfWay())
    assert (await provider.mount(call({}, secrets=PRINCIPAL))).files[0].contents == VALUE.encode()
    assert clock.pauses == [2.0, 0.8]


async def test_an_entra_that_hangs_is_a_time_out(vault: DevVault, clock: StillClock) -> None:
    """Our limit counts for tokens as well."""
    settings = HttpsSettings(dev=vault.redirect, try_timeout=0.2)
    vault.add_fault(ENTRA, Hang(), times=None)
    async with provider_for(settings, clock) as provider:
        error = await failure(provider, call({}, secrets=PRINCIPAL))
    assert (type(error), error.hop) == (ConnectionFailedError, Hop.CONNECT)
    assert f"{ENTRA} did not answer in time (4 tries)" in error.problem


async def test_an_authority_that_does_not_resolve_is_a_dns_failure(
    clock: StillClock, tmp_path: Path
) -> None:
    """The hop and the host are named, for tokens and for vaults alike."""
    path = tmp_path / "cloud.json"
    cloud = {
        "activeDirectoryEndpoint": "https://login.invalid/",
        "keyVaultEndpoint": "https://vault.invalid/",
        "keyVaultDNSSuffix": "vault.invalid",
    }
    path.write_text(json.dumps(cloud))
    stack = {"cloudName": "AzureStackCloud", "cloudEnvFileName": str(path)}
    async with provider_for(HttpsSettings(), clock) as provider:
        error = await failure(provider, call(stack, secrets=PRINCIPAL))
    assert (type(error), error.hop) == (ConnectionFailedError, Hop.DNS)
    assert "the host name login.invalid could not be resolved" in error.problem


async def test_an_authority_with_an_untrusted_certificate_is_a_tls_failure(
    vault: DevVault, clock: StillClock, tmp_path: Path
) -> None:
    """Tokens are asked for over verified TLS only."""
    async with running_devvault(tmp_path / "other") as other:
        dev = DevRedirect(vault.redirect.https, vault.redirect.http, other.redirect.ca_file)
        async with provider_for(HttpsSettings(dev=dev), clock) as provider:
            error = await failure(provider, call({}, secrets=PRINCIPAL))
    assert (type(error), error.hop) == (ConnectionFailedError, Hop.TLS)
    assert f"the TLS certificate of {ENTRA} is not accepted" in error.problem
    assert vault.count(PathKind.TOKEN) == 0


@pytest.mark.parametrize(
    "break_it",
    [
        lambda vault: vault.add_fault(ENTRA, RespondStatus(400), times=None),
        lambda vault: vault.add_fault(ENTRA, RespondStatus(200), times=None),
        lambda vault: vault.add_fault(VAULT, RespondStatus(200), times=None),
    ],
)
async def test_answers_without_sense_are_errors_of_ours(
    vault: DevVault, provider: AzureProvider, break_it: Callable[[DevVault], None]
) -> None:
    """Whoever answers there, nothing foreign escapes."""
    break_it(vault)
    await failure(provider, call({}, secrets=PRINCIPAL))


async def test_neither_tokens_nor_ids_are_logged(
    vault: DevVault, provider: AzureProvider, caplog: pytest.LogCaptureFixture
) -> None:
    """By nobody, whatever the level: what fails is written once, where the call entered."""
    with caplog.at_level(logging.DEBUG):
        await provider.mount(call({}, secrets=PRINCIPAL))
        await failure(provider, call({}, secrets=PRINCIPAL | {"clientsecret": "canary-x"}))
    written = " ".join(record.getMessage() for record in caplog.records)
    for secret in (CLIENT_SECRET, "canary", "eyJ", "client_secret", APP):
        assert secret not in written


def _closed_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
