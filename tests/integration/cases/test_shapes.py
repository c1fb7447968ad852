"""YAML shapes of SecretProviderClasses in public repositories: mounted, or an error that helps.

Each case is a folder `shape-<name>`. Whatever upstream reads is mounted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from keyferry.cli.local.files import visible_files
from tests.fakes.cli import run_cli
from tests.integration.cases.world import HERE, VAULT_MANIFEST, World, add_certificate

SECRET1, SECRET2 = b"value of secret1", b"value of secret2"
USER, PASSWORD = b"app", b"s3cret"

MOUNTED: dict[str, Mapping[str, bytes]] = {
    "a07-trailing-spaces": {"ALIAS_1": SECRET1, "secret2": SECRET2},
    "a09-v1alpha1-leftovers": {"secret1": SECRET1},
    "a11-crlf-inside": {"secret1": SECRET1, "secret2": SECRET2},
    "a13-bom": {"secret1": SECRET1},
    "a19-kubectl-list": {"secret1": SECRET1},
    "a21-helm-ragged": {"secret1": SECRET1, "two": SECRET2, "db-user": b"value of db-user"},
    "a23-flow-items": {"secret1": SECRET1, "two": SECRET2},
    "a25-file-anchors": {"secret1": SECRET1},
    "a27-odd-types": {"secret1": SECRET1},
    "a29-tabs": {"secret1": SECRET1},
    "a33-merge-in-objects": {"secret1": SECRET1, "secret2": SECRET2},
    "a35-space-before-colon": {"secret1": SECRET1},
    "a37-second-doc-in-objects": {"secret1": SECRET1},
    "a39-null-item": {"secret1": SECRET1},
    "a41-case-name": {"SECRET1": SECRET1, "mixedcase": b"value of mixedcase"},
    "a47-binary-tag": {"secret1": SECRET1},
    "a49-provider-quotes-spaces": {"secret1": SECRET1},
    "v02-quoted-folded-unknown": {"cert": PASSWORD, "pks12": USER},
    "v04b-alias-scalar": {"username": USER, "password": PASSWORD},
    "v06-path-spellings": dict.fromkeys("abcde", PASSWORD),
    "v08b-pki-args2": {"tls.crt": b"web.example.com 1"},
    "v12-json-list": {"a": PASSWORD},
    "v14-address-slash": {"a": PASSWORD},
    "v16-null-item": {"a": PASSWORD},
    "v18-nested-names": {"db/user/name": USER, "db/user/pass": PASSWORD},
}

REFUSED: dict[str, tuple[str, ...]] = {
    "a05-array-of-maps": ("is the '|' after its '-' missing? (line 2 of objects)",),
    "a15-secretobjects-in-parameters": (
        "line 18: SecretProviderClass default/c: spec.parameters.secretObjects is a list",
        "Move it to spec",
    ),
    "a17-objects-empty-array-sibling": (
        "line 12: SecretProviderClass default/c: spec.parameters.array is a list",
        "Indent array: and its items below objects: |",
    ),
    "a31-glued-comment": (
        "(line 4 of objects)",
        "Write a blank before '#', which otherwise begins no comment.",
    ),
    "a43-empty-array": ("objects lists no object, its array is empty.",),
    "a45-keyvault-caps": ("keyvaultName is not provided", "Rename keyVaultName to keyvaultName."),
    "a51-y-n-keys": (
        "line 21: SecretProviderClass default/c: spec.secretObjects[0].data[0].key is a boolean",
        'Put it in quotes: key: "on".',
    ),
    "v03b-perm-quoted": ("is not a mode from 0 to 0777: '0400'", "without quotes"),
    "v07b-azure-style-string-items": (
        "the entry is not a mapping (the entry at index 0, line 1 of objects)",
        "Remove the '|' after the '-'",
    ),
    "v10-vaultrole": ("roleName is not set", "Rename vaultRole to roleName."),
    "v14c-address-v1": ("Remove /v1 from the end of the vault's address",),
    "v15b-path-padded": ("Remove the blanks around secretPath: ' secret/data/db '.",),
    "v22-missing-key": (
        "secret/data/db has no key 'passsword'; its keys are: password, username.",
        "Did you mean 'password'?",
    ),
    "v28-absolute-objectname": ("the objectName '/etc/app/password' is absolute",),
    "v30-bool-unquoted": (
        "line 11: SecretProviderClass default/c: spec.parameters.vaultSkipTLSVerify is a boolean",
        'Put it in quotes: vaultSkipTLSVerify: "true".',
    ),
    "x02-gcp": ("provider 'gcp' is not built in. Available providers: azure, openbao, vault.",),
}

ELSEWHERE = {"a01-json-string", "a03-all-fields-empty", "v24-json-values", "v26-metadata"}
"""Shapes with a test of their own."""


def test_every_shape_has_a_test() -> None:
    folders = {path.name.removeprefix("shape-") for path in HERE.glob("shape-*")}
    assert folders == MOUNTED.keys() | REFUSED.keys() | ELSEWHERE


@pytest.mark.parametrize("shape", MOUNTED)
async def test_shape_that_upstream_reads_is_mounted(world: World, shape: str) -> None:
    """All files, with their content."""
    outcome = await world.mount_case(f"shape-{shape}")

    assert ("", ()) == (outcome.error, outcome.problems)
    assert MOUNTED[shape] == outcome.files


@pytest.mark.parametrize("shape", REFUSED)
async def test_shape_that_cannot_be_read_is_an_error_with_its_place_and_remedy(
    world: World, shape: str
) -> None:
    """The message says where the mistake is, and what to write instead."""
    outcome = await world.mount_case(f"shape-{shape}")

    assert [] == [words for words in REFUSED[shape] if words not in outcome.error], outcome.error
    assert {} == outcome.files


async def test_json_of_a_controller_is_mounted_with_its_secret(world: World) -> None:
    """`a01`: JSON in JSON, and a TLS Secret."""
    add_certificate(world)

    outcome = await world.mount_case("shape-a01-json-string")

    assert ("", ()) == (outcome.error, outcome.problems)
    assert outcome.files["web"].startswith(b"-----BEGIN PRIVATE KEY-----\n")
    assert outcome.secrets["keyvault-app"]["tls.crt"].startswith(b"-----BEGIN CERTIFICATE-----\n")


async def test_empty_fields_have_their_defaults(world: World) -> None:
    """`a03`: also for a key."""
    add_certificate(world)

    outcome = await world.mount_case("shape-a03-all-fields-empty")

    assert "" == outcome.error
    assert SECRET1 == outcome.files["myalias"]
    assert outcome.files["webkey"].startswith(b"-----BEGIN PUBLIC KEY-----\n")
    assert {"myalias": 0o644, "webkey": 0o644} == outcome.modes


async def test_unknown_types_of_secrets_are_opaque_data(world: World) -> None:
    """`a27`: the API server decides about types that it does not know."""
    outcome = await world.mount_case("shape-a27-odd-types")

    assert {
        "s-one": {"k": SECRET1},
        "s-two": {"k": SECRET1},
        "s-three": {"accountkey": SECRET1},
    } == outcome.secrets


async def test_mode_in_decimal_is_a_number_of_json(world: World) -> None:
    """`v12`: 256 is 0400."""
    outcome = await world.mount_case("shape-v12-json-list")

    assert {"a": 0o400} == outcome.modes


async def test_values_that_are_not_texts_are_json(world: World) -> None:
    """`v24`: without blanks, as Go writes it; numbers keep their digits."""
    outcome = await world.mount_case("shape-v24-json-values")

    assert {
        "a": b'{"a":[1,{"b":null}],"c":"\\u003cd\\u003e"}',
        "b": b"12345678901234567890",
        "c": b"true",
        "d": b"1",
        "e": b"",
    } == outcome.files


async def test_metadata_of_a_secret_can_be_read(world: World) -> None:
    """`v26`: a key of it, or the whole response."""
    outcome = await world.mount_case("shape-v26-metadata")

    assert b"1" == outcome.files["m"]
    assert {"current_version": 1} == json.loads(outcome.files["n"])["data"]


# --- the same kinds in other places ---------------------------------------------------------------

AZURE = """\
apiVersion: secrets-store.csi.x-k8s.io/v1
kind: SecretProviderClass
metadata: {name: c}
spec:
  provider: azure
  parameters:
    useVMManagedIdentity: "true"
    keyvaultName: contoso
    tenantId: 11111111-0000-4000-8000-000000000000
    objects: |
"""
AZURE_ENTRY = "- |\n  objectName: secret1\n  objectType: secret\n"
VAULT_ENTRY = "- {objectName: a, secretPath: secret/data/db, secretKey: password}\n"


def indented(head: str, objects: str) -> str:
    """Return a SecretProviderClass with these `objects`."""
    return head + "".join(f"      {line}\n" for line in objects.splitlines())


@pytest.mark.parametrize(
    "objects",
    [
        "array:\n- ~\n{0}- null\n- # nothing\n",
        "---\narray:\n{0}---\n",
        "array:\n{0}...\n",
        "array:\n{0}---\narray: [\n",
        "%YAML 1.1\n---\narray:\n{0}",
        "%YAML 1.2\n---\narray:\n{0}",
        "array: !!seq\n{0}",
        "array:\n- !!str |\n  objectName: secret1\n  objectType: secret\n",
        "array:\n- !own |\n  objectName: secret1\n  objectType: !!str secret\n",
        "<<: {{array: ['{{objectName: secret1, objectType: secret}}']}}\n",
        "array:\n- |\n  <<: [{{objectType: secret}}, {{objectType: key}}]\n  objectName: secret1\n",
        "array:\n- &x |\n  objectName: secret1\n  objectType: secret\n",
        "array:\n- |\n  objectName: secret1\n  objectType: secret\n  objectVersionHistory: 1.0\n",
        "array:\n- >\n  {{objectName: secret1,\n  objectType: secret}}\n",
        "array:\n- |\n  ---\n  objectName: secret1\n  objectType: secret\n  ---\n",
        "other: [1, 2.0, 2024-01-01, !x {{}}]\narray:\n{0}",
    ],
)
async def test_azure_reads_what_yaml_v3_reads(world: World, objects: str) -> None:
    """Markers, directives, tags, merge keys, nulls and numbers."""
    outcome = await world.mount(indented(AZURE, objects.format(AZURE_ENTRY)))

    assert "" == outcome.error
    assert {"secret1": SECRET1} == outcome.files


@pytest.mark.parametrize(
    "objects",
    [
        "- ~\n{0}- null\n- # nothing\n",
        "---\n{0}---\n",
        "{0}...\n",
        "{0}---\n- [\n",
        "%YAML 1.2\n---\n{0}",
        "!!seq\n{0}",
        "- !!map {{objectName: a, secretPath: !!str secret/data/db, secretKey: !own password}}\n",
        "- {{<<: {{secretPath: secret/data/db}}, objectName: a, secretKey: password}}\n",
        "- {{objectName: a, secretPath: secret/data/db, secretKey: password, method: null}}\n",
        "{0}  \n",
        "- objectName: !!binary YQ==\n  secretPath: secret/data/db\n  secretKey: password\n",
    ],
)
async def test_vault_reads_what_yaml_v3_reads(world: World, objects: str) -> None:
    """The same for the list of the Vault provider."""
    outcome = await world.mount(indented(VAULT_MANIFEST, objects.format(VAULT_ENTRY)))

    assert "" == outcome.error
    assert {"a": PASSWORD} == outcome.files


@pytest.mark.parametrize(
    ("objects", "words"),
    [
        ("array:\n- >\n  objectName: secret1\n  objectType: secret\n", "'- |' instead of '- >'"),
        ("array:\n- |\n  objectName: {{ .Values.name }}\n", "Render the template first"),
        ("array:\n{{- range .Values.names }}\n- x\n", "Render the template first"),
        ("array:\n- |\n\tobjectName: secret1\n", "tabs are not allowed for indentation"),
        ("array:\n  - |\n  objectName: secret1\n", "Indent the lines below '- |'"),
        ("array:\n- |\n\u00a0\u00a0objectName: a\n  objectType: key\n", "character U+00A0"),
        ("array: |\n  - |\n    objectName: secret1\n", "array is a text"),
        ("array:\n- |\n  # nothing\n", "remove the entry if it is empty"),
        ("array:\n- |\n  objectName: \u201csecret1\u201d\n  objectType: key\n", "U+201C"),
        ("array:\n- |\n  objectName:secret1\n  objectType: secret\n", "Write a blank after ':'"),
        ("array: " + "[" * 200 + "]" * 200, "nested deeper than 64 levels"),
        ("array: " + "[" * 20_000, "nested deeper than 64 levels"),
        (
            f"a: &a [{'x,' * 100}]\nb: &b [{'*a,' * 100}]\narray: [*b, *b]",
            "more than 10000 values, aliases expanded",
        ),
        ("array: &a [*a]", "an alias has no anchor before it, or is within its own anchor"),
    ],
)
async def test_mistakes_in_objects_are_named(world: World, objects: str, words: str) -> None:
    """Each with its line and its remedy."""
    outcome = await world.mount(indented(AZURE, objects))

    assert words in outcome.error
    assert "of objects)" in outcome.error


@pytest.mark.parametrize(
    "metadata",
    [
        "labels: {reviewed: 2024-06-01}",
        "labels: {window: 22:30}",
        "annotations: {window: 22:30:15}",
        "annotations: {at: 2024-06-01T10:00:00Z}",
        "annotations: {at: 2024-06-01 10:00:00}",
        "labels: {at: !!timestamp 2024-06-01}",
    ],
)
async def test_dates_and_times_are_texts_as_for_kubectl(world: World, metadata: str) -> None:
    """In labels and annotations of a Secret."""
    text = indented(AZURE, f"array:\n{AZURE_ENTRY}") + (
        "  secretObjects:\n"
        "  - {secretName: s, type: Opaque, data: [{objectName: secret1, key: k}], "
        f"{metadata}}}\n"
    )

    outcome = await world.mount(text)

    assert ("", ()) == (outcome.error, outcome.problems)
    kind, _, rest = metadata.partition(": {")
    key, _, value = rest.removesuffix("}").partition(": ")
    found = outcome.manifests["s"]["metadata"][kind]
    assert value.removeprefix("!!timestamp ") == found[key]


@pytest.mark.parametrize(
    ("written", "remedy"),
    [
        ("on", 'key: "on".'),
        ("y", 'key: "y".'),
        ("No", 'key: "No".'),
        ("TRUE", 'key: "TRUE".'),
        ("1.0", 'key: "...".'),
        ("0755", 'key: "...".'),
        ("1_000", 'key: "...".'),
    ],
)
async def test_scalars_that_kubectl_does_not_read_as_text_are_named(
    world: World, written: str, remedy: str
) -> None:
    """The remedy has the text as it is written, if it is a boolean."""
    text = indented(AZURE, f"array:\n{AZURE_ENTRY}") + (
        "  secretObjects:\n"
        f"  - {{secretName: s, type: Opaque, data: [{{objectName: secret1, key: {written}}}]}}\n"
    )

    outcome = await world.mount(text)

    assert "spec.secretObjects[0].data[0].key is a" in outcome.error
    assert outcome.error.endswith(f"Put it in quotes: {remedy}")


async def test_parameter_that_occurs_twice_is_an_error_with_its_line(world: World) -> None:
    """Kubectl would use the last one without a word."""
    text = AZURE.replace("keyvaultName: contoso\n", "keyvaultName: one\n    keyvaultName: two\n")

    outcome = await world.mount(indented(text, f"array:\n{AZURE_ENTRY}"))

    assert "line 9 has the key 'keyvaultName' twice in one mapping" in outcome.error


@pytest.mark.parametrize("case", ["actions.yaml", "values.yaml"])
async def test_template_that_was_not_rendered_is_recognized(world: World, case: str) -> None:
    """`keyferry mount` reads files, and Helm charts contain templates."""
    outcome = await world.mount_case("template-not-rendered", case)

    assert "contains '{{': render the template first, for example with 'helm template'" in (
        outcome.error
    )


async def test_command_line_prints_the_error_of_a_manifest(world: World) -> None:
    """The same through the real command: exit code 2, a line for the error, no file."""
    path = world.write((HERE / "shape-a51-y-n-keys" / "class.yaml").read_bytes())

    done = await run_cli("mount", path, world.target)

    assert 0 != done.exit_code
    assert "spec.secretObjects[0].data[0].key is a boolean, not text" in done.stderr
    assert 'Put it in quotes: key: "on".' in done.stderr
    assert "" == done.stdout
    assert [] == visible_files(world.target)
