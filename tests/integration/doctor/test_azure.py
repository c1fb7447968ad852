"""`keyferry doctor` names the broken stage of a set-up with Azure Key Vault."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from keyferry.doctor.checks import DoctorStage, Report, Status
from keyferry.doctor.reports import document, report_lines
from tests.fakes.devvault import CloseMidResponse, Hang, RespondStatus
from tests.integration.doctor.azure_world import (
    CANARY,
    CLIENT,
    ENTRA,
    SUBJECT,
    TENANT,
    VAULT,
    World,
    broken_token,
    secret,
    working_world,
)

OTHER_TENANT = "33333333-0000-4000-8000-000000000000"
OTHER_CLIENT = "44444444-0000-4000-8000-000000000000"
SECRETS = f"{VAULT}/secrets/"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with working_world(tmp_path) as found:
        yield found


def text_of(report: Report) -> str:
    """The report as text and as JSON."""
    lines = "\n".join(report_lines([report], lambda _, word: word))
    return f"{lines}\n{json.dumps(document([report]))}"


async def test_everything_is_ok_and_the_facts_of_the_token_are_those_of_a_federated_credential(
    world: World,
) -> None:
    """Issuer, subject and audience, letter by letter."""
    report = await world.diagnose()
    assert report.broken is None, text_of(report)
    assert report.is_complete
    by_stage = {each.stage: each for each in report.checks}
    token = by_stage[DoctorStage.TOKEN].facts
    assert ("https://kubernetes.default.svc.cluster.local", SUBJECT) == (
        token["issuer"],
        token["subject"],
    )
    assert "api://AzureADTokenExchange" == token["audience"]
    assert TENANT == by_stage[DoctorStage.VAULT].facts["trusted tenant"]
    objects = [each for each in report.checks if each.stage is DoctorStage.OBJECT]
    assert ["secret db-password", "secret api-key"] == [each.subject for each in objects]
    assert all(each.facts["version"] for each in objects)
    assert "password" == by_stage[DoctorStage.SECRET].facts["keys"]
    stages = [each.stage for each in report.checks]
    assert sorted(stages, key=list(DoctorStage).index) == stages


async def test_an_object_is_read_once_although_it_is_mounted_alone_and_with_the_others(
    world: World,
) -> None:
    """And one token is requested."""
    await world.diagnose()
    paths = [each.path for each in world.vault.requests]
    assert 1 == sum("/secrets/db-password/" in path for path in paths)
    assert 1 == sum("oauth2" in path for path in paths)


def bad_yaml(world: World) -> None:
    world.class_text = "kind: [SecretProviderClass"


def no_class(world: World) -> None:
    world.class_text = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\n"


def two_classes(world: World) -> None:
    manifest = json.dumps(world._manifest())
    other = manifest.replace('"app"', '"other"', 1)
    world.class_text = f"{manifest}\n---\n{other}\n"


def no_provider(world: World) -> None:
    world.provider = ""


def no_vault_name(world: World) -> None:
    del world.parameters["keyvaultName"]


def bad_vault_name(world: World) -> None:
    world.parameters["keyvaultName"] = "contoso.vault.azure.net/"


def no_tenant(world: World) -> None:
    del world.parameters["tenantID"]


def bad_object_type(world: World) -> None:
    world.objects[0]["objectType"] = "secrets"


def path_clash(world: World) -> None:
    world.objects[1]["objectAlias"] = "db-password"


def bad_cloud(world: World) -> None:
    world.parameters["cloudName"] = "AzureMoonCloud"


def two_modes(world: World) -> None:
    world.parameters |= {"useVMManagedIdentity": "true", "usePodIdentity": "true"}


def unfit_url(world: World) -> None:
    del world.parameters["keyvaultName"]
    world.parameters["keyvaultURL"] = "https://contoso.example.com"


def no_tokens(world: World) -> None:
    world.tokens = None


def other_audience(world: World) -> None:
    world.tokens = world.vault.service_account_token(SUBJECT, audience="vault")


def bad_tokens_file(world: World) -> None:
    world.tokens = "a.b.c"


def expired_token(world: World) -> None:
    world.tokens = world.vault.service_account_token(SUBJECT, lifetime_seconds=-60)


def other_subject(world: World) -> None:
    world.tokens = world.vault.service_account_token("system:serviceaccount:shop:other")


def bad_signature(world: World) -> None:
    assert world.tokens is not None
    world.tokens = broken_token(world.tokens)


def unknown_tenant(world: World) -> None:
    world.parameters["tenantID"] = OTHER_TENANT


def unknown_client(world: World) -> None:
    world.parameters["clientID"] = OTHER_CLIENT


def wrong_client_secret(world: World) -> None:
    world.vault.add_app(OTHER_CLIENT, tenant=TENANT, secret="right")
    del world.parameters["clientID"]
    world.credentials = secret(clientid=OTHER_CLIENT, clientsecret=CANARY)


def no_credentials(world: World) -> None:
    del world.parameters["clientID"]


def incomplete_credentials(world: World) -> None:
    del world.parameters["clientID"]
    world.credentials = secret(clientid=OTHER_CLIENT)


def credentials_of_another_kind(world: World) -> None:
    del world.parameters["clientID"]
    world.credentials = {"kind": "ConfigMap", "data": {"clientid": CANARY}}


def no_machine_identity(world: World) -> None:
    world.parameters |= {"useVMManagedIdentity": "true", "userAssignedIdentityID": OTHER_CLIENT}
    del world.parameters["clientID"]


def entra_fails(world: World) -> None:
    world.vault.add_fault(ENTRA, RespondStatus(503), times=None)


def entra_closes(world: World) -> None:
    world.vault.add_fault(ENTRA, CloseMidResponse(), times=None)


def vault_fails(world: World) -> None:
    world.vault.add_fault(VAULT, RespondStatus(503), times=None)


def vault_throttles(world: World) -> None:
    world.vault.add_fault(VAULT, RespondStatus(429, retry_after=60), times=None)


def no_vault(world: World) -> None:
    world.parameters["keyvaultName"] = "fabrikam"


def vault_of_another_tenant(world: World) -> None:
    world.vault.add_app(OTHER_CLIENT, tenant=OTHER_TENANT, secret=None)
    world.vault.set_secret("fabrikam", "db-password", CANARY)
    world.vault.set_secret("fabrikam", "api-key", CANARY)
    world.vault.grant("fabrikam", OTHER_CLIENT, "get")
    world.parameters["keyvaultName"] = "fabrikam"


def no_policy(world: World) -> None:
    world.vault.revoke("contoso", CLIENT)


def only_list(world: World) -> None:
    world.vault.grant("contoso", CLIENT, "list")


def missing_object(world: World) -> None:
    world.objects[1]["objectName"] = "nope"


def missing_version(world: World) -> None:
    world.objects[1]["objectVersion"] = "0" * 32


def disabled_object(world: World) -> None:
    world.vault.disable("contoso", "api-key")


def deleted_object(world: World) -> None:
    world.vault.delete("contoso", "api-key")


def wrong_type(world: World) -> None:
    world.objects[1]["objectType"] = "key"


def bad_encoding(world: World) -> None:
    world.objects[1]["objectEncoding"] = "hex"


def missing_json_key(world: World) -> None:
    world.objects[1]["jmesPath"] = [{"path": "password", "objectAlias": "password"}]


def template_of_a_missing_file(world: World) -> None:
    world.parameters["templates"] = "- path: app.conf\n  template: '{{ nope | b64 }}'\n"


def bad_template(world: World) -> None:
    world.parameters["templates"] = "- path: app.conf\n  template: '{{ db-password | nope }}'\n"


def unknown_file_of_secret(world: World) -> None:
    world.secret_objects[0]["data"][0]["objectName"] = "db-pasword"


def tls_secret_without_certificate(world: World) -> None:
    world.secret_objects[0] |= {
        "type": "kubernetes.io/tls",
        "data": [
            {"objectName": "db-password", "key": "tls.crt"},
            {"objectName": "db-password", "key": "tls.key"},
        ],
    }


S = DoctorStage
MISTAKES: list[tuple[Callable[[World], None], DoctorStage, str]] = [
    (bad_yaml, S.CLASS, ""),
    (no_class, S.CLASS, ""),
    (two_classes, S.CLASS, ""),
    (no_provider, S.CLASS, ""),
    (no_vault_name, S.PARAMETERS, "azure"),
    (bad_vault_name, S.PARAMETERS, "azure"),
    (no_tenant, S.PARAMETERS, "azure"),
    (bad_object_type, S.PARAMETERS, "azure"),
    (path_clash, S.PARAMETERS, "azure"),
    (bad_cloud, S.PARAMETERS, "azure"),
    (two_modes, S.PARAMETERS, "azure"),
    (unfit_url, S.PARAMETERS, "azure"),
    (no_tokens, S.TOKEN, ""),
    (other_audience, S.TOKEN, ""),
    (bad_tokens_file, S.TOKEN, ""),
    (expired_token, S.TOKEN, "shop/web"),
    (other_subject, S.TOKEN_ENDPOINT, ENTRA),
    (bad_signature, S.TOKEN_ENDPOINT, ENTRA),
    (unknown_tenant, S.TOKEN_ENDPOINT, ENTRA),
    (unknown_client, S.TOKEN_ENDPOINT, ENTRA),
    (wrong_client_secret, S.TOKEN_ENDPOINT, ENTRA),
    (no_credentials, S.CREDENTIALS, ""),
    (incomplete_credentials, S.CREDENTIALS, ""),
    (credentials_of_another_kind, S.CREDENTIALS, ""),
    (no_machine_identity, S.TOKEN_ENDPOINT, "169.254.169.254"),
    (entra_fails, S.TOKEN_ENDPOINT, ENTRA),
    (entra_closes, S.TCP, ENTRA),
    (vault_fails, S.VAULT, VAULT),
    (vault_throttles, S.VAULT, VAULT),
    (no_vault, S.VAULT, "fabrikam.vault.azure.net"),
    (vault_of_another_tenant, S.LOGIN, "fabrikam.vault.azure.net"),
    (no_policy, S.PERMISSION, "secret db-password"),
    (only_list, S.PERMISSION, "secret db-password"),
    (missing_object, S.OBJECT, "secret nope"),
    (missing_version, S.OBJECT, f"secret api-key version {'0' * 32}"),
    (disabled_object, S.OBJECT, "secret api-key"),
    (deleted_object, S.OBJECT, "secret api-key"),
    (wrong_type, S.OBJECT, "key api-key"),
    (bad_encoding, S.RENDERING, "secret api-key"),
    (missing_json_key, S.RENDERING, "secret api-key"),
    (template_of_a_missing_file, S.RENDERING, "volume"),
    (bad_template, S.PARAMETERS, "azure"),
    (unknown_file_of_secret, S.SECRET, "app"),
    (tls_secret_without_certificate, S.SECRET, "app"),
]


@pytest.mark.parametrize(
    ("mistake", "stage", "subject"), MISTAKES, ids=[each[0].__name__ for each in MISTAKES]
)
async def test_the_broken_stage_is_named_with_a_remedy(
    world: World, mistake: Callable[[World], None], stage: DoctorStage, subject: str
) -> None:
    """Nothing before it fails, what depends on it is skipped, and nothing secret is shown."""
    mistake(world)
    report = await world.diagnose()
    text = text_of(report)
    assert report.broken is not None, text
    assert (stage, subject or report.broken.subject) == (
        report.broken.stage,
        report.broken.subject,
    ), text
    assert report.broken.remedy, text
    assert 0 != report.broken.exit_code
    assert not report.is_complete
    assert CANARY not in text
    assert "eyJ" not in text
    order = list(DoctorStage)
    later = [each for each in report.checks if order.index(each.stage) > order.index(stage)]
    assert Status.SKIPPED in {each.status for each in later} or not later, text


async def test_a_broken_object_does_not_hide_the_others(world: World) -> None:
    """Each object has a result of its own."""
    missing_object(world)
    report = await world.diagnose()
    objects = {each.subject: each.status for each in report.checks if each.stage is S.OBJECT}
    assert {"secret db-password": Status.OK, "secret nope": Status.FAILED} == objects


async def test_another_vault_is_checked_although_one_is_broken(world: World) -> None:
    """Vaults are independent."""
    world.objects[1] |= {"keyvaultName": "fabrikam"}
    report = await world.diagnose()
    vaults = {each.subject: each.status for each in report.checks if each.stage is S.VAULT}
    assert {VAULT: Status.OK, "fabrikam.vault.azure.net": Status.FAILED} == vaults
    objects = {each.subject: each.status for each in report.checks if each.stage is S.OBJECT}
    assert Status.OK == objects["secret db-password of vault contoso"]
    assert Status.SKIPPED == objects["secret api-key of vault fabrikam"]


async def test_a_vault_that_hangs_is_found_within_the_time_limit(world: World) -> None:
    """The check says how long it waited."""
    world.vault.add_fault(f"{VAULT}/secrets/", Hang(), times=None)
    world.seconds = 12.0
    report = await world.diagnose()
    assert report.broken is not None
    assert VAULT == report.broken.subject
    assert "did not answer" in report.broken.problem


async def test_an_optional_object_that_is_missing_is_no_failure(world: World) -> None:
    """The check says so."""
    missing_object(world)
    world.objects[1]["optional"] = True
    report = await world.diagnose()
    assert report.broken is None, text_of(report)
    facts = {each.subject: each.facts for each in report.checks if each.stage is S.OBJECT}
    assert "missing" == facts["secret nope"]["optional"]
