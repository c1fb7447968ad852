"""Inputs of public reports about vaults, identities and Secrets, and their siblings."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
import yaml

from tests.fakes.certificates import issue_certificate, new_ec_key
from tests.integration.cases.world import (
    CLIENT,
    HERE,
    TENANT,
    World,
    manifest,
    running_world,
)

# --- Key Vault ------------------------------------------------------------------------------------


async def test_disabled_version_names_the_newest_enabled_one(world: World) -> None:
    """`newest-version-disabled`: the older version can be read by `objectVersion`."""
    older = world.azure.set_secret("contoso", "rot", "old")
    enabled = world.azure.set_secret("contoso", "rot", "good")
    newest = world.azure.set_secret("contoso", "rot", "new")
    for version in (older, newest):
        world.azure.disable("contoso", "rot", version)

    outcome = await world.mount_case("newest-version-disabled")

    assert "secret rot is disabled in vault contoso" in outcome.error
    assert f"set objectVersion: {enabled}" in outcome.error
    assert older not in outcome.error
    fixed = await world.mount(manifest("rot", objectVersion=enabled))
    assert {"rot": b"good"} == fixed.files


async def test_disabled_version_without_an_enabled_one_only_says_so(world: World) -> None:
    """There is nothing to pin."""
    world.azure.disable("contoso", "rot", world.azure.set_secret("contoso", "rot", "only"))

    outcome = await world.mount_case("newest-version-disabled")

    assert "secret rot is disabled in vault contoso" in outcome.error
    assert "it has no enabled version" in outcome.error


async def test_disabled_version_without_permission_to_list_names_the_parameter(
    world: World,
) -> None:
    """The list of versions needs a permission of its own."""
    world.azure.set_secret("contoso", "rot", "old")
    world.azure.disable("contoso", "rot", world.azure.set_secret("contoso", "rot", "new"))
    world.azure.grant("contoso", CLIENT, "get")

    outcome = await world.mount_case("newest-version-disabled")

    assert "secret rot is disabled in vault contoso" in outcome.error
    assert "set objectVersion to an enabled version" in outcome.error


async def test_type_of_a_kubernetes_secret_is_named(world: World) -> None:
    """`secret-type-as-object-type`: it belongs to `secretObjects`."""
    outcome = await world.mount_case("secret-type-as-object-type")

    assert "(entry at index 0, line 2 of objects)" in outcome.error
    assert outcome.error.endswith(
        "Set objectType: secret. 'kubernetes.io/dockerconfigjson' is a type of Kubernetes Secrets: "
        "write it as type in spec.secretObjects."
    )


@pytest.mark.parametrize(
    ("written", "remedy"),
    [
        ("Secret", "Write objectType: secret."),
        ("secrets", "Write objectType: secret."),
        ("certificate", "Write objectType: cert."),
        ("KEYS", "Write objectType: key."),
        ("Opaque", "Set objectType: secret. 'Opaque' is a type of Kubernetes Secrets"),
        ("password", "Set objectType to one of these, in lower case."),
    ],
)
async def test_misspelt_object_type_is_named(world: World, written: str, remedy: str) -> None:
    """The remedy has the type that was meant."""
    outcome = await world.mount(manifest("secret1", objectType=written))

    assert f"objectType is not secret, key or cert: '{written}'" in outcome.error
    assert remedy in outcome.error


async def test_machine_without_a_system_assigned_identity_names_the_parameter(
    mount_home: Path,
) -> None:
    """`several-identities`: IMDS refuses to choose."""
    async with running_world(mount_home, system_assigned=False) as world:
        outcome = await world.mount_case("several-identities")

    assert "has no system-assigned managed identity" in outcome.error
    assert "userAssignedIdentityID" in outcome.error


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("${KV}", "Replace the placeholder ${KV} in spec.parameters.keyvaultName"),
        ("'{{ .Values.kv }}'", "Replace the placeholder {{ .Values.kv }} in spec.parameters."),
        ("<your-vault-name>", "Replace the placeholder <your-vault-name> in spec.parameters."),
        ("contoso_dev", "Remove '_': the name of a vault has only letters, digits and hyphens."),
        ("contoso.vault.azure.net", "without https:// and domain: contoso."),
        ("https://contoso.vault.azure.net/", "without https:// and domain: contoso."),
        ("kv", "must be between 3 and 24 chars. Set keyvaultName to the name of the vault, which"),
        ("contoso dev", "Remove ' '"),
    ],
)
async def test_invalid_name_of_a_vault_is_named_with_what_to_write(
    world: World, name: str, words: str
) -> None:
    """The remedy fits the mistake."""
    text = manifest("secret1").replace("keyvaultName: contoso", f"keyvaultName: {name}")

    outcome = await world.mount(text)

    assert "Invalid vault name" in outcome.error
    assert words in outcome.error


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (f"tenantId: {TENANT}", "tenantId: <tenant-id>"),
        ("objectName: secret1", "objectName: ${SECRET}"),
        ("objectName: secret1", "objectName: '{{ .Values.secret }}'"),
        ("objectName: secret1", "objectName: $(SecretName)"),
        ("objectName: secret1", "objectName: __SECRET__"),
    ],
)
async def test_placeholder_of_any_parameter_is_named(world: World, old: str, new: str) -> None:
    """Nothing replaced it before the SecretProviderClass was applied."""
    outcome = await world.mount(manifest("secret1").replace(old, new))

    assert "Replace the placeholder " in outcome.error
    assert "for example with helm template or envsubst." in outcome.error


async def test_client_secret_with_a_line_end_is_read(world: World) -> None:
    """`echo` and files end with one; role_id and secret_id are trimmed, too."""
    world.azure.add_app("app", tenant=TENANT, secret="s3cret-1")
    world.azure.grant("contoso", "app", "get")
    world.secrets = {"clientid": "app\n", "clientsecret": "s3cret-1\r\n"}
    text = manifest("secret1").replace('    useVMManagedIdentity: "true"\n', "")

    outcome = await world.mount(text)

    assert "" == outcome.error
    assert {"secret1": b"value of secret1"} == outcome.files


ENCODED = base64.b64encode(bytes(range(250, 256)) * 20).decode()

READ = {
    "lines": ("base64", "\n".join(ENCODED[at : at + 64] for at in range(0, len(ENCODED), 64))),
    "windows lines": (
        "base64",
        "\r\n".join(ENCODED[at : at + 64] for at in range(0, len(ENCODED), 64)),
    ),
    "one line": ("base64", ENCODED),
    "hex": ("hex", (bytes(range(250, 256)) * 20).hex()),
    "hex in capitals": ("hex", (bytes(range(250, 256)) * 20).hex().upper()),
}
NOT_READ = {
    "no padding": ("base64", "+vv8/f7/+g", "its padding (=) is missing, or it is cut off"),
    "url-safe": ("base64", "-vv8_f7_", "it has the URL-safe alphabet, with - and _"),
    "blanks": ("base64", "+vv8 /f7/", "it contains blanks"),
    "hex with a line end": ("hex", "fafb\n", "it contains blanks or line breaks"),
    "hex with 0x": ("hex", "0xfafb", "it begins with 0x"),
    "pem": ("base64", "-----BEGIN CERTIFICATE-----\nMIIB", "it is PEM"),
}


@pytest.mark.parametrize("name", READ)
async def test_encoded_value_is_decoded_as_by_upstream(world: World, name: str) -> None:
    """`encodings`: line ends within base64, and hex in any case."""
    encoding, value = READ[name]
    world.azure.set_secret("contoso", "encoded", value)

    outcome = await world.mount(manifest("encoded", objectEncoding=encoding))

    assert {"encoded": bytes(range(250, 256)) * 20} == outcome.files


@pytest.mark.parametrize("name", NOT_READ)
async def test_badly_encoded_value_is_an_error_that_names_the_mistake(
    world: World, name: str
) -> None:
    """`encodings`: what upstream refuses, too."""
    encoding, value, mistake = NOT_READ[name]
    world.azure.set_secret("contoso", "encoded", value)

    outcome = await world.mount(manifest("encoded", objectEncoding=encoding))

    problem = f"the value is not valid {encoding}, but objectEncoding is {encoding}: {mistake}"
    assert problem in outcome.error


@pytest.mark.parametrize("value", ["", "\ufeffx", "key\n", "\U0001f600", "x" * 25_000])
async def test_plain_values_are_delivered_unchanged(world: World, value: str) -> None:
    """`encodings`: empty, with a byte order mark, with a line end, of any character, long."""
    world.azure.set_secret("contoso", "plain", value)

    outcome = await world.mount(manifest("plain"))

    assert {"plain": value.encode()} == outcome.files


# --- Vault and OpenBao ----------------------------------------------------------------------------


async def test_certificate_and_key_are_of_one_request_and_stay(world: World) -> None:
    """`pki-renewal`: a refresh does not issue another certificate."""

    def issue(name: str) -> dict[str, str]:
        issued = issue_certificate(name, new_ec_key())
        return {"certificate": issued.pem.decode(), "private_key": issued.key_pem.decode()}

    world.vault.issue = issue

    outcome = await world.mount_case("pki-renewal")

    assert ("", ()) == (outcome.error, outcome.problems)
    assert 1 == world.vault.request_count("pki/issue/short")
    assert outcome.files["tls.crt"] == outcome.secrets["webtls"]["tls.crt"]


async def test_deleted_version_is_named_with_its_time(world: World) -> None:
    """`deletion-in-the-future`: read until then; later the pod keeps its file."""
    world.vault.write("secret", "dva", {"key": "v"})
    before = await world.mount_case("deletion-in-the-future")
    world.vault.delete("secret", "dva")

    after = await world.mount_case("deletion-in-the-future")

    assert {"k": b"v"} == before.files == after.files
    assert "version 1 of the secret at secret/data/dva was deleted at 2026-01-02T" in after.error
    assert "vault kv undelete -mount=secret -versions=1 dva" in after.error


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("missing.yaml", "secret/data/db has no key 'passsword'; its keys are: password, username"),
        ("missing.yaml", "Did you mean 'password'?"),
    ],
)
async def test_missing_key_is_an_error_with_the_keys(world: World, file: str, words: str) -> None:
    """`missing-key`."""
    outcome = await world.mount_case("missing-key", file)

    assert words in outcome.error


async def test_null_is_written_as_upstream_writes_it(world: World) -> None:
    """`missing-key`: JSON's null."""
    outcome = await world.mount_case("missing-key", "null.yaml")

    assert {"a": b"null"} == outcome.files


async def test_values_of_any_type_are_json(world: World) -> None:
    """`values-of-other-types`."""
    outcome = await world.mount_case("values-of-other-types")

    assert b"12345678901234567890" == outcome.files["b"]
    assert b"true" == outcome.files["c"]


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("mount.yaml", ("jwtt", "vault auth list")),
        ("role.yaml", ('role "nosuch" could not be found',)),
        ("namespace.yaml", ("team-a",)),
        ("audience.yaml", ("audience",)),
        ("scheme.yaml", ("http://",)),
    ],
)
async def test_mistake_of_a_login_is_named(world: World, file: str, words: tuple[str, ...]) -> None:
    """`wrong-login`: mount, role, namespace, audience and scheme."""
    outcome = await world.mount_case("wrong-login", file)

    assert [] == [word for word in words if word not in outcome.error], outcome.error
    assert {} == outcome.files


async def test_auth_before_the_mount_is_accepted(world: World) -> None:
    """`wrong-login`: `auth/jwt` is `jwt`."""
    outcome = await world.mount_case("wrong-login", "prefix.yaml")

    assert {"password": b"s3cret"} == outcome.files


# --- Secrets --------------------------------------------------------------------------------------

DATA = "data: [{objectName: secret1, key: k}]"


DEFINED_TWICE = "define the same secret 'same'"


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        (
            [
                "{secretName: same, type: Opaque, data: [{objectName: secret1, key: k}]}",
                "{secretName: same, type: Opaque, data: [{objectName: secret2, key: k}]}",
            ],
            f"spec.secretObjects[0] and spec.secretObjects[1] {DEFINED_TWICE}",
        ),
        (
            [
                f"{{secretName: same, type: Opaque, {DATA}}}",
                f"{{secretName: other, type: Opaque, {DATA}}}",
                f"{{secretName: same, type: kubernetes.io/basic-auth, {DATA}}}",
            ],
            f"spec.secretObjects[0] and spec.secretObjects[2] {DEFINED_TWICE}",
        ),
        (
            [
                f"{{secretName: same, type: Opaque, {DATA}, labels: {{a: b}}}}",
                f"{{secretName: ' same ', type: Opaque, {DATA}}}",
            ],
            f"spec.secretObjects[0] and spec.secretObjects[1] {DEFINED_TWICE}",
        ),
        (
            [f"{{secretName: same, type: Opaque, {DATA[:-1]}, {{objectName: secret2, key: k}}]}}"],
            "data[0] (objectName 'secret1') and data[1] (objectName 'secret2') of secret 'same'",
        ),
    ],
)
async def test_two_entries_for_one_target_are_an_error_that_names_both(
    world: World, entries: list[str], words: str
) -> None:
    """`two-entries-for-one-target`: no value is lost in silence; the volume is mounted."""
    secrets = f"[{', '.join(entries)}]"

    outcome = await world.mount(manifest("secret1", "secret2", secrets=secrets))

    (problem,) = outcome.problems
    assert words in problem
    assert "same" not in outcome.secrets
    assert {"secret1", "secret2"} == outcome.files.keys()


@pytest.mark.parametrize(
    "entries",
    [
        [f"{{secretName: same, type: Opaque, {DATA}}}"] * 2,
        [f"{{secretName: same, type: Opaque, {DATA.removesuffix(']')}, {DATA.partition('[')[2]}}}"],
    ],
)
async def test_equal_entries_are_one(world: World, entries: list[str]) -> None:
    """Nothing is lost, and upstream accepts them."""
    outcome = await world.mount(manifest("secret1", secrets=f"[{', '.join(entries)}]"))

    assert () == outcome.problems
    assert {"same": {"k": b"value of secret1"}} == outcome.secrets


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("{objectName: SECRET1, key: k}", "Did you mean 'secret1'?"),
        ("{objectName: secrt1, key: k}", "Did you mean 'secret1'?"),
        ("{objectName: secret1}", "data[0] of secret 's' has no key. Set key."),
        ("{key: k}", "objectName is empty"),
        ("{objectName: secret1, key: a/b}", "key 'a/b' of secret 's' is not a valid key"),
    ],
)
async def test_mistake_in_data_of_a_secret_is_named(world: World, data: str, words: str) -> None:
    """The volume is mounted, and the event says what to change."""
    secrets = f"[{{secretName: s, type: Opaque, data: [{data}]}}]"

    outcome = await world.mount(manifest("secret1", secrets=secrets))

    (problem,) = outcome.problems
    assert words in problem


async def test_secret_of_others_keeps_their_keys(world: World) -> None:
    """`adopted-secret`: with the annotation, keys and labels of others stay, also at the end."""
    path = world.secrets_dir / "secrets" / "default" / "argocd-secret.yaml"
    path.parent.mkdir(parents=True)
    others = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": "argocd-secret",
            "namespace": "default",
            "labels": {"app.kubernetes.io/part-of": "argocd"},
        },
        "type": "Opaque",
        "data": {"server.secretkey": base64.b64encode(b"theirs").decode()},
    }
    path.write_text(yaml.safe_dump(others))

    outcome = await world.mount_case("adopted-secret")
    await world.unmount()

    assert ("", ()) == (outcome.error, outcome.problems)
    assert {
        "server.secretkey": b"theirs",
        "oidc.clientSecret": b"value of secret1",
    } == outcome.secrets["argocd-secret"]
    labels = outcome.manifests["argocd-secret"]["metadata"]["labels"]
    assert "argocd" == labels["app.kubernetes.io/part-of"]
    left = yaml.safe_load(path.read_text())
    assert {"server.secretkey"} == left["data"].keys()
    assert "argocd" == left["metadata"]["labels"]["app.kubernetes.io/part-of"]


async def test_secret_objects_below_parameters_are_named(world: World) -> None:
    """`secret-objects-in-parameters`: the remedy is to move them."""
    outcome = await world.mount_case("secret-objects-in-parameters")

    assert "line 18" in outcome.error
    assert "Move it to spec" in outcome.error


def test_every_case_is_used() -> None:
    """Each folder is named by a test."""
    texts = "".join(path.read_text() for path in HERE.glob("test_*.py"))
    cases = {path.name for path in HERE.iterdir() if (path / "README.md").exists()}
    assert [] == sorted(case for case in cases if f"shape-{case[6:]}" != case and case not in texts)
