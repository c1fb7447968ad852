"""`keyferry mount` reports fields that have no effect, and mounts nevertheless."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from keyferry.content import FileOwner, MissingObject, ObjectVersion, SecretFile
from keyferry.net.grpc_server import serving_grpc
from keyferry.net.sockets import parse_endpoint
from keyferry.plugins.external_provider import ExternalProvider
from keyferry.providers.api import MountCall, MountResult
from keyferry.providers.host import ProviderHost
from keyferry.providers.known_fields.names import KUBELET_PREFIX
from keyferry.providers.server import add_provider
from tests.fakes.cli import CommandResult, run_cli
from tests.fakes.devvault import DevVault, running_devvault
from tests.fakes.log import captured_log
from tests.fakes.provider import ScriptedProvider
from tests.fakes.vault_api import VaultApi, running_vault
from tests.fakes.vault_auth import FakeToken

TENANT = "11111111-0000-4000-8000-000000000000"
CLIENT = "22222222-0000-4000-8000-000000000000"
CLASS = f"""\
apiVersion: secrets-store.csi.x-k8s.io/v1
kind: SecretProviderClass
metadata:
  name: app
spec:
  provider: azure
  parameters:
    useVMManagedIdentity: "true"
    userAssignedIdentityID: {CLIENT}
    keyvaultName: contoso
    tenantID: {TENANT}
    objects: |
      array:
      - |
        objectName: db-password
        objectType: secret
"""
VAULT_CLASS = """\
apiVersion: secrets-store.csi.x-k8s.io/v1
kind: SecretProviderClass
metadata:
  name: app
spec:
  provider: {provider}
  parameters:
{parameters}
    vaultAuthMethod: token
    {parameter}
    objects: |
      - objectName: password
        secretPath: kv/db
        {field}
"""
pytestmark = pytest.mark.usefixtures("mount_home")


@pytest.fixture
async def vault(tmp_path: Path) -> AsyncIterator[DevVault]:
    async with running_devvault(tmp_path) as vault:
        vault.set_secret("contoso", "db-password", "s3cret")
        vault.add_managed_identity(CLIENT, tenant=TENANT)
        vault.grant("contoso", CLIENT, "get")
        yield vault


async def mount(folder: Path, text: str, *arguments: object) -> CommandResult:
    """Mount a SecretProviderClass at the folder `target`."""
    (folder / "app.yaml").write_text(text)
    return await run_cli("mount", folder / "app.yaml", folder / "target", *arguments)


def warnings(done: CommandResult) -> list[str]:
    """The warnings on standard error."""
    lines = done.stderr.splitlines()
    return [line.removeprefix("warning: ") for line in lines if line.startswith("warning: ")]


@pytest.mark.parametrize(
    ("old", "new", "warning"),
    [
        (
            "    keyvaultName",
            '    resourceGroup: ""\n    keyvaultName',
            (
                "spec.parameters.resourceGroup has no effect: the azure provider has not read it"
                " since version 0.0.4; remove it"
            ),
        ),
        (
            "objectType: secret",
            "objectType: secret\n        objectalias: x",
            "unknown field spec.parameters.objects[0].objectalias: did you mean objectAlias?",
        ),
        (
            "  parameters:",
            "  secretobjects: []\n  parameters:",
            "unknown field spec.secretobjects: did you mean secretObjects?",
        ),
        (
            "  name: app",
            "  name: app\n  namespce: shop",
            "unknown field metadata.namespce: did you mean namespace?",
        ),
    ],
)
async def test_unknown_field_is_a_warning_and_the_mount_succeeds(
    tmp_path: Path, vault: DevVault, old: str, new: str, warning: str
) -> None:
    """On standard error; upstream accepts such a SecretProviderClass, too."""
    assert old in CLASS
    text = CLASS.replace(old, new, 1)

    done = await mount(tmp_path, text, "--dev-vault", tmp_path / "devvault")

    assert ([warning], 0) == (warnings(done), done.exit_code)
    assert "s3cret" == (tmp_path / "target" / "db-password").read_text()
    assert "warning" not in done.stdout


async def test_right_class_causes_no_warning(tmp_path: Path, vault: DevVault) -> None:
    """It has only known fields."""
    done = await mount(tmp_path, CLASS, "--dev-vault", tmp_path / "devvault")
    assert ([], 0) == (warnings(done), done.exit_code)


async def test_warning_comes_with_the_error_that_it_explains(tmp_path: Path) -> None:
    """The error names the misspelled parameter, too."""
    done = await mount(tmp_path, CLASS.replace("keyvaultName", "keyVaultName"))
    assert ["unknown field spec.parameters.keyVaultName: did you mean keyvaultName?"] == (
        warnings(done)
    )
    assert "you wrote keyVaultName\nhint: Rename keyVaultName to keyvaultName." in done.stderr
    assert done.exit_code != 0


async def test_credentials_and_tokens_are_checked(tmp_path: Path) -> None:
    """Fields of their files, and keys of the Secret."""
    (tmp_path / "creds.yaml").write_text(
        "kind: Secret\nstringdata: {clientid: a}\nstringData: {clientid: a, clientsecrett: b}\n"
    )
    (tmp_path / "tokens.json").write_text(
        '{"vault": {"token": "a", "expirationTimestmp": "2030-01-01T00:00:00Z"}}'
    )
    text = CLASS.replace('useVMManagedIdentity: "true"', "cloudName: AzurePublicCloud")
    files = tmp_path / "creds.yaml", tmp_path / "tokens.json"

    done = await mount(
        tmp_path, text, "--credentials", files[0], "--service-account-tokens", files[1]
    )

    assert [
        f"{files[0]}: unknown field stringdata",
        f"{files[1]}: unknown field vault.expirationTimestmp: did you mean expirationTimestamp?",
        "unknown field nodePublishSecretRef.clientsecrett: did you mean clientsecret?",
    ] == warnings(done)
    assert "Rename clientsecrett to clientsecret." in done.stderr


async def test_provider_behind_a_socket_logs_them_once(tmp_path: Path) -> None:
    """The protocol cannot carry them. The log has no value of the Secret."""
    endpoint = parse_endpoint(f"unix://{tmp_path}/vault.sock")
    host = ProviderHost({})
    add = partial(
        add_provider,
        provider=ScriptedProvider(),
        name="vault",
        check_fields=partial(host.unknown_fields, "vault"),
    )
    caller = ExternalProvider("vault", tmp_path / "vault.sock", max_receive_bytes=1 << 22)
    attributes = {
        "secretProviderClass": "app",
        "vaultAdress": "x",
        "roleName": "x",
        f"{KUBELET_PREFIX}pod.namespace": "shop",
        f"{KUBELET_PREFIX}pod.name": "web-0",
    }
    with captured_log() as log:
        async with serving_grpc(endpoint, add):
            for _ in range(2):
                await caller.mount(MountCall(attributes, {"roleid": "canary-21c9"}))
            await caller.close()
    (line,) = [line for line in log.getvalue().splitlines() if "without effect" in line]
    assert "spec.parameters.vaultAdress (did you mean vaultAddress?)" in line
    assert "nodePublishSecretRef.roleid (did you mean role_id?)" in line
    assert 'spc="shop/app"' in line
    assert "canary-21c9" not in log.getvalue()


async def test_provider_behind_a_socket_logs_that_owners_are_lost(tmp_path: Path) -> None:
    """Once for a SecretProviderClass."""
    endpoint = parse_endpoint(f"unix://{tmp_path}/vault.sock")
    provider = ScriptedProvider()
    file = SecretFile("db", 0o400, b"canary-21c9", FileOwner(999))
    provider.returns(MountResult((ObjectVersion("db", "1"),), (file,)))
    add = partial(add_provider, provider=provider, name="vault")
    caller = ExternalProvider("vault", tmp_path / "vault.sock", max_receive_bytes=1 << 22)
    attributes = {"secretProviderClass": "app", f"{KUBELET_PREFIX}pod.namespace": "shop"}
    with captured_log() as log:
        async with serving_grpc(endpoint, add):
            results = [await caller.mount(MountCall(attributes)) for _ in range(2)]
            await caller.close()
    assert [None, None] == [result.files[0].owner for result in results]
    (line,) = [line for line in log.getvalue().splitlines() if "has no owners" in line]
    assert 'spc="shop/app"' in line
    assert "files=db" in line.replace('"', "")
    assert "canary-21c9" not in log.getvalue()


async def test_provider_behind_a_socket_logs_what_is_missing(tmp_path: Path) -> None:
    """Once, as long as it does not change: the protocol has versions, and no reasons."""
    endpoint = parse_endpoint(f"unix://{tmp_path}/vault.sock")
    provider = ScriptedProvider()
    missing = MissingObject("db", ("db",), "it is disabled")
    version = ObjectVersion("db", "missing")
    provider.returns(MountResult((version,), missing=(missing,)))
    add = partial(add_provider, provider=provider, name="vault")
    caller = ExternalProvider("vault", tmp_path / "vault.sock", max_receive_bytes=1 << 22)
    attributes = {"secretProviderClass": "app", f"{KUBELET_PREFIX}pod.namespace": "shop"}
    with captured_log() as log:
        async with serving_grpc(endpoint, add):
            results = [await caller.mount(MountCall(attributes)) for _ in range(2)]
            await caller.close()
    assert [(version,), (version,)] == [result.versions for result in results]
    (line,) = [line for line in log.getvalue().splitlines() if "objects are missing" in line]
    assert 'spc="shop/app"' in line
    assert "db (it is disabled)" in line


@pytest.fixture
async def vault_api() -> AsyncIterator[VaultApi]:
    async with running_vault() as vault:
        vault.write("kv", "db", {"password": "s3cret"})
        yield vault


@pytest.mark.parametrize(
    ("provider", "parameter", "field", "expected"),
    [
        (
            "vault",
            "vaultAudience: x",
            "secretkey: password",
            [
                "unknown field spec.parameters.vaultAudience: did you mean audience?",
                "unknown field spec.parameters.objects[0].secretkey: did you mean secretKey?",
            ],
        ),
        (
            "openbao",
            "baoRole: x",
            "objectVersion: '1'",
            [
                "unknown field spec.parameters.baoRole: did you mean roleName?",
                (
                    "spec.parameters.objects[0].objectVersion has no effect: it is a field of"
                    " the azure provider; the newest version is read, unless secretPath ends with"
                    " ?version=N"
                ),
            ],
        ),
    ],
)
async def test_vault_fields_are_checked(
    tmp_path: Path,
    vault_api: VaultApi,
    provider: str,
    parameter: str,
    field: str,
    expected: list[str],
) -> None:
    """The file holds the whole response, because `secretkey` selects nothing."""
    given = "\n".join(f'    {name}: "{text}"' for name, text in vault_api.parameters.items())
    text = VAULT_CLASS.format(provider=provider, parameters=given, parameter=parameter, field=field)
    vault_api.tokens["t0ken"] = FakeToken({"kv/db": {"read"}}, 600, 600, renewable=True)
    (tmp_path / "creds.yaml").write_text("kind: Secret\nstringData: {token: t0ken}\n")

    done = await mount(tmp_path, text, "--credentials", tmp_path / "creds.yaml")

    assert (expected, 0) == (warnings(done), done.exit_code), done.stderr
    assert "request_id" in (tmp_path / "target" / "password").read_text()
