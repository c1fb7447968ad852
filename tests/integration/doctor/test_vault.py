"""`keyferry doctor` names the broken stage of a set-up with Vault or OpenBao."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from keyferry.cli.diagnosis.files import diagnose_file
from keyferry.cli.local.options import LocalOptions
from keyferry.doctor.checks import DoctorStage, Report, Status
from keyferry.doctor.reports import document, report_lines
from keyferry.providers.restrictions import UNRESTRICTED
from keyferry.providers.settings import ProviderSettings
from tests.fakes.vault_api import VaultApi, running_vault
from tests.fakes.vault_auth import service_account_token
from tests.fakes.vault_certificates import SERVER_NAME_PARAMETER, VaultCertificates
from tests.fakes.vault_mounts import entry, tokens_json

CANARY = "canary-77ab10e2"
POLICY = {"secret/data/app/*": {"read"}, "database/creds/app": {"read"}}
S = DoctorStage


@dataclass
class World:
    """A vault, and the files of a SecretProviderClass that reads it."""

    vault: VaultApi
    certificates: VaultCertificates
    folder: Path
    provider: str = "vault"
    parameters: dict[str, str] = field(default_factory=dict)
    objects: list[dict[str, Any]] = field(
        default_factory=lambda: [entry("db", "secret/data/app/db", secretKey="password")]
    )
    token: str = ""
    credentials: dict[str, str] | None = None
    seconds: float = 20.0

    async def diagnose(self) -> Report:
        """Return the report of `keyferry doctor`."""
        spc = self.folder / "class.yaml"
        parameters = {**self.parameters, "objects": yaml.safe_dump(self.objects)}
        manifest = {
            "apiVersion": "secrets-store.csi.x-k8s.io/v1",
            "kind": "SecretProviderClass",
            "metadata": {"name": "app", "namespace": "shop"},
            "spec": {"provider": self.provider, "parameters": parameters},
        }
        spc.write_text(yaml.safe_dump(manifest))
        tokens = credentials = None
        if self.token:
            tokens = self.folder / "tokens.json"
            audience = "openbao" if self.provider == "openbao" else "vault"
            tokens.write_text(tokens_json(**{audience: self.token}))
        if self.credentials is not None:
            credentials = self.folder / "credentials.yaml"
            secret = {"kind": "Secret", "stringData": self.credentials}
            credentials.write_text(yaml.safe_dump(secret))
        options = LocalOptions(
            spc_file=spc,
            spc_text=None,
            spc_name=None,
            credentials=credentials,
            tokens=tokens,
            dev_vault=None,
            settings=ProviderSettings(restrictions=UNRESTRICTED),
            vault_qps=0.0,
            timeout=self.seconds,
        )
        (report,) = await diagnose_file(options)
        return report


@asynccontextmanager
async def working_world(folder: Path) -> AsyncIterator[World]:
    """A vault with TLS whose CA the SecretProviderClass names."""
    certificates = VaultCertificates(folder)
    async with running_vault(context=certificates.context()) as vault:
        vault.add_role("app", accounts=["shop/web"], policy=POLICY)
        vault.write("secret", "app/db", {"password": CANARY})
        yield World(
            vault,
            certificates,
            folder,
            parameters={
                **vault.parameters,
                **SERVER_NAME_PARAMETER,
                "vaultCACertPath": str(certificates.ca),
                "roleName": "app",
            },
            token=service_account_token("shop/web"),
        )


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    async with working_world(tmp_path) as found:
        yield found


def text_of(report: Report) -> str:
    """The report as text and as JSON."""
    lines = "\n".join(report_lines([report], lambda _, word: word))
    return f"{lines}\n{json.dumps(document([report]))}"


@pytest.mark.parametrize("provider", ["vault", "openbao"])
async def test_everything_is_ok_and_the_connection_is_described(
    world: World, provider: str
) -> None:
    """The certificate of the server, the role and the audience."""
    world.provider = provider
    if provider == "openbao":
        world.vault.add_role("app", accounts=["shop/web"], policy=POLICY, audience="openbao")
        world.token = service_account_token("shop/web", "openbao")
    report = await world.diagnose()
    assert report.is_complete, text_of(report)
    facts = {each.stage: each.facts for each in report.checks}
    assert "CN=ca" in facts[S.TLS]["issuer"]
    assert "test.domain.com" in facts[S.TLS]["names"]
    assert facts[S.TCP]["peer"].startswith("127.0.0.1:")
    assert {"role": "app", "auth": "auth/kubernetes"}.items() <= facts[S.LOGIN].items()
    assert "https://cluster.test" == facts[S.TOKEN]["issuer"]
    assert CANARY not in text_of(report)
    assert world.token not in text_of(report)


async def test_dynamic_secrets_that_the_diagnosis_created_are_revoked(world: World) -> None:
    """No database user is left."""
    world.objects = [entry("user", "database/creds/app", secretKey="username")]
    report = await world.diagnose()
    assert report.is_complete, text_of(report)
    assert set() == world.vault.database_users


def unknown_host(world: World) -> None:
    world.parameters["vaultAddress"] = "https://vault.invalid:8200"


def refused_port(world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    world.parameters["vaultAddress"] = f"https://127.0.0.1:{port}"


def unknown_ca(world: World) -> None:
    del world.parameters["vaultCACertPath"]


def other_name(world: World) -> None:
    world.parameters["vaultTLSServerName"] = "other.example.com"


def missing_ca_file(world: World) -> None:
    world.parameters["vaultCACertPath"] = str(world.folder / "none.pem")


def https_for_http(world: World) -> None:
    world.parameters["vaultAddress"] = world.parameters["vaultAddress"].replace("https", "http")


def unreachable_proxy(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    world.parameters["vaultAddress"] = "https://vault.example.com:8200"
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:{CANARY}@127.0.0.1:{port}")


def unresolved_proxy(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.parameters["vaultAddress"] = "https://vault.example.com:8200"
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.invalid:3128")


def sealed(world: World) -> None:
    world.vault.fault = (503, ["Vault is sealed"])


def standby(world: World) -> None:
    world.vault.fault = (500, ["local node not active but active cluster node not found"])


def limited(world: World) -> None:
    world.vault.fault = (429, ["request path limited: rate limit quota exceeded"])


def unknown_role(world: World) -> None:
    world.parameters["roleName"] = "nope"


def other_account(world: World) -> None:
    world.token = service_account_token("shop/other")


def other_cluster(world: World) -> None:
    world.token = world.token[:-6] + "AAAAAA"


def unknown_auth_mount(world: World) -> None:
    world.parameters["vaultAuthMountPath"] = "k8s"


def no_token(world: World) -> None:
    world.token = ""


def wrong_secret_id(world: World) -> None:
    del world.parameters["roleName"]
    world.parameters["vaultAuthMethod"] = "approle"
    world.credentials = {"role_id": "a", "secret_id": CANARY}


def no_secret_id(world: World) -> None:
    wrong_secret_id(world)
    world.credentials = {"role_id": "a"}


def no_policy(world: World) -> None:
    world.vault.add_role("app", accounts=["shop/web"], policy={})


def missing_path(world: World) -> None:
    world.objects.append(entry("nope", "secret/data/app/nope", secretKey="x"))


def missing_key(world: World) -> None:
    world.objects.append(entry("nope", "secret/data/app/db", secretKey="nope"))


def kv1_path(world: World) -> None:
    world.objects[0]["secretPath"] = "secret/app/db"


def no_role(world: World) -> None:
    del world.parameters["roleName"]


def bad_address(world: World) -> None:
    world.parameters["vaultAddress"] = "vault.example.com:8200"


def repeated_object(world: World) -> None:
    world.objects *= 2


MISTAKES: list[tuple[Callable[..., None], DoctorStage]] = [
    (unknown_host, S.DNS),
    (refused_port, S.TCP),
    (unknown_ca, S.TLS),
    (other_name, S.TLS),
    (missing_ca_file, S.PARAMETERS),
    (https_for_http, S.TCP),
    (unreachable_proxy, S.PROXY),
    (unresolved_proxy, S.PROXY),
    (sealed, S.VAULT),
    (standby, S.VAULT),
    (limited, S.VAULT),
    (unknown_role, S.LOGIN),
    (other_account, S.LOGIN),
    (other_cluster, S.LOGIN),
    (unknown_auth_mount, S.LOGIN),
    (no_token, S.TOKEN),
    (wrong_secret_id, S.LOGIN),
    (no_secret_id, S.CREDENTIALS),
    (no_policy, S.PERMISSION),
    (missing_path, S.OBJECT),
    (missing_key, S.OBJECT),
    (kv1_path, S.OBJECT),
    (no_role, S.PARAMETERS),
    (bad_address, S.PARAMETERS),
    (repeated_object, S.PARAMETERS),
]


@pytest.mark.parametrize(
    ("mistake", "stage"), MISTAKES, ids=[each[0].__name__ for each in MISTAKES]
)
async def test_the_broken_stage_is_named_with_a_remedy(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    mistake: Callable[..., None],
    stage: DoctorStage,
) -> None:
    """And nothing secret is shown."""
    needs_environment = mistake in (unreachable_proxy, unresolved_proxy)
    mistake(*((world, monkeypatch) if needs_environment else (world,)))
    report = await world.diagnose()
    text = text_of(report)
    assert report.broken is not None, text
    assert stage is report.broken.stage, text
    assert report.broken.remedy, text
    assert 0 != report.broken.exit_code
    assert CANARY not in text
    assert not world.token or world.token not in text


async def test_a_certificate_that_is_not_accepted_is_described(world: World) -> None:
    """Its names and its issuer show what answers instead."""
    other_name(world)
    report = await world.diagnose()
    tls = next(each for each in report.checks if each.stage is S.TLS)
    assert Status.FAILED is tls.status
    assert {"names", "issuer"} <= tls.facts.keys(), text_of(report)
    assert "test.domain.com" in tls.facts["names"]
    assert "CN=ca" in tls.facts["issuer"]


async def test_a_server_that_never_finishes_the_handshake_is_broken_at_tls(world: World) -> None:
    """TCP works."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        world.parameters["vaultAddress"] = f"https://127.0.0.1:{server.getsockname()[1]}"
        world.seconds = 12.0
        report = await world.diagnose()
    assert report.broken is not None
    assert S.TLS is report.broken.stage, text_of(report)


async def test_one_vault_that_is_broken_does_not_hide_another(world: World) -> None:
    """Each vault has its checks."""
    other = dict(world.objects[0], objectName="other", vaultAddress="https://vault.invalid:8200")
    world.objects.append(other)
    world.seconds = 60.0  # the DNS of a busy machine
    report = await world.diagnose()
    status = {(each.stage, each.subject): each.status for each in report.checks}
    assert Status.FAILED is status[S.DNS, "vault.invalid:8200"]
    host = world.parameters["vaultAddress"].removeprefix("https://")
    assert Status.OK is status[S.LOGIN, host], text_of(report)
    assert Status.OK is status[S.OBJECT, f"object db of vault {host}"]
    assert Status.SKIPPED is status[S.OBJECT, "object other of vault vault.invalid:8200"]
