"""keyferry.providers.known_fields: the parameters and fields of each provider."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import pytest

from keyferry.errors import KeyferryError
from keyferry.formats.unknown_fields import MAX_UNKNOWN_FIELDS
from keyferry.kubernetes import SecretProviderClass
from keyferry.providers.azure.objects_yaml import read_entries
from keyferry.providers.azure.params import bundle_options
from keyferry.providers.azure.params import parse_mount as parse_azure
from keyferry.providers.known_fields.names import (
    AZURE_OBJECT_FIELDS,
    AZURE_PARAMETERS,
    KUBELET_ATTRIBUTES,
    KUBELET_PREFIX,
    VAULT_ENTRY_SUFFIXES,
    VAULT_OBJECT_FIELDS,
    VAULT_PARAMETER_SUFFIXES,
    VAULT_PARAMETERS,
)
from keyferry.providers.registry import unknown_fields
from keyferry.providers.settings import VaultSettings
from keyferry.providers.vault.params import parse_mount as parse_vault
from keyferry.providers.vault.product import OPENBAO, VAULT, Product
from keyferry.rendering.class_options import parse_volume_options

REFERENCE = Path(__file__).parents[3] / "docs" / "reference"
POD = dict.fromkeys(KUBELET_ATTRIBUTES, "x") | {f"{KUBELET_PREFIX}serviceAccount.tokens": "{}"}


def warnings(provider: str, parameters: Mapping[str, str], *keys: str) -> list[str]:
    spc = SecretProviderClass("shop", "web", provider, parameters)
    return [str(field) for field in unknown_fields(spc, secret_keys=keys)]


# --- Documentation and code have the same names ---------------------------------------------------


def documented(page: str, section: str) -> set[str]:
    """The names in the first column of the first table of a section."""
    text = (REFERENCE / page).read_text().partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    table = re.search(r"(^\|.*\n)+", text, re.MULTILINE)
    assert table is not None
    cells = [line.split("|")[1] for line in table[0].splitlines()[2:]]
    return {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}


def test_pages_list_all_parameters() -> None:
    """And no others."""
    assert set(AZURE_PARAMETERS) == documented("azure.md", "Parameters")
    vault = {*VAULT.role_keys, *VAULT_PARAMETERS, *(f"vault{s}" for s in VAULT_PARAMETER_SUFFIXES)}
    assert vault == documented("vault.md", "Parameters")


def test_pages_list_all_fields_of_objects() -> None:
    """And no others."""
    assert set(AZURE_OBJECT_FIELDS) == documented("azure.md", "Objects")
    vault = {*VAULT.role_keys, *VAULT_OBJECT_FIELDS, *(f"vault{s}" for s in VAULT_ENTRY_SUFFIXES)}
    assert vault == documented("vault.md", "Objects")


class Recorded(Mapping[str, str]):
    """A mapping that records the keys that are asked for by name."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self.values_by_name = values
        self.asked: set[str] = set()

    def __getitem__(self, key: str) -> str:
        self.asked.add(key)
        return self.values_by_name[key]

    def __contains__(self, key: object) -> bool:
        self.asked.add(str(key))
        return key in self.values_by_name

    def __iter__(self) -> Iterator[str]:
        return iter(self.values_by_name)

    def __len__(self) -> int:
        return len(self.values_by_name)


AZURE = {
    "keyvaultName": "contoso",
    "tenantID": "t",
    "objects": "array:\n- |\n  objectName: a\n  objectType: secret\n",
}
MODES = (
    {"clientID": "c"},
    {"useVMManagedIdentity": "true"},
    {"usePodIdentity": "true"},
    {"useAzureTokenProxy": "true", "clientID": "c"},
    {"useArcManagedIdentity": "true"},
    {"tenantID": "", "tenantId": "t"},
)


def test_azure_reads_the_parameters_of_the_table() -> None:
    """All of them, in one mode or another, and no others."""
    asked: set[str] = set()
    for mode in MODES:
        parameters = Recorded({**AZURE, **POD, **mode})
        with suppress(KeyferryError):
            parse_azure(parameters, None)
        bundle_options(parameters)
        parse_volume_options(parameters)
        asked |= parameters.asked
    assert set(AZURE_PARAMETERS) == {name for name in asked if not name.startswith(KUBELET_PREFIX)}
    assert asked - set(AZURE_PARAMETERS) <= set(KUBELET_ATTRIBUTES)


@pytest.mark.parametrize("product", [VAULT, OPENBAO], ids=lambda product: product.name)
def test_vault_reads_the_parameters_of_the_table(product: Product) -> None:
    """All of them, and no others."""
    parameters = Recorded({"roleName": "r", "objects": "- {objectName: a, secretPath: b}", **POD})
    parse_vault(parameters, None, target_path="/t", product=product, settings=VaultSettings())
    parse_volume_options(parameters)
    known = set(product.parameters.known)
    asked = {name for name in parameters.asked if not name.startswith(KUBELET_PREFIX)}
    assert known == asked - {""}  # a parameter that is not set
    assert parameters.asked - asked <= set(KUBELET_ATTRIBUTES)


# --- Warnings -------------------------------------------------------------------------------------

AZURE_OBJECT = "array:\n- |\n  objectName: a\n  objectType: secret\n  {line}\n"
VAULT_OBJECT = "- objectName: a\n  secretPath: b\n  {line}\n"


def test_every_known_parameter_and_field_is_silent() -> None:
    """Also all at once."""
    azure = AZURE | dict.fromkeys(AZURE_PARAMETERS, "") | {"objects": AZURE["objects"]}
    entry = "".join(f"  {name}: ''\n" for name in AZURE_OBJECT_FIELDS)
    assert [] == warnings("azure", azure | {"objects": f"array:\n- |\n{entry}"})
    for product in (VAULT, OPENBAO):
        entry = "".join(f"  {name}: ''\n" for name in product.object_fields.known)
        parameters = dict.fromkeys(product.parameters.known, "")
        assert [] == warnings(product.name, parameters | {"objects": f"-\n{entry}"})


@pytest.mark.parametrize(
    ("provider", "name", "expected"),
    [
        ("azure", "keyVaultName", "did you mean keyvaultName?"),
        ("azure", "vaultName", "did you mean keyvaultName?"),
        ("azure", "keyvault_name", "did you mean keyvaultName?"),
        ("azure", "keyVaultUri", "did you mean keyvaultURL?"),
        ("azure", "tenant", "did you mean tenantID?"),
        ("azure", "TenantId", "did you mean tenantID?"),
        ("azure", "clientid", "did you mean clientID?"),
        ("azure", "useVmManagedIdentity", "did you mean useVMManagedIdentity?"),
        ("azure", "useManagedIdentity", "did you mean useVMManagedIdentity?"),
        ("azure", "userAssignedIdentityId", "did you mean userAssignedIdentityID?"),
        ("azure", "vmmanagedidentityclientid", "did you mean userAssignedIdentityID?"),
        ("azure", "object", "did you mean objects?"),
        ("azure", "resourceGroup", "the azure provider has not read it since version 0.0.4"),
        ("azure", "subscriptionid", "the azure provider has not read it since version 0.0.4"),
        ("azure", "keyvaultobjectnames", "it is a parameter of the FlexVolume driver"),
        ("azure", "array", "indent array below objects: |"),
        ("azure", "secretObjects", "it belongs to spec, beside parameters"),
        ("azure", "objectType", "it is a field of an entry of objects"),
        ("azure", "clientsecret", "a SecretProviderClass holds no credentials"),
        ("azure", "useWorkloadIdentity", "clientID selects it"),
        ("azure", "roleName", "it is a parameter of the vault provider"),
        ("azure", "vaultAddress", "it is a parameter of the vault provider"),
        ("azure", "region", "it is a parameter of the aws provider"),
        ("azure", f"{KUBELET_PREFIX}pod.name", "only kubelet may set it"),
        ("azure", "colour", "unknown field spec.parameters.colour"),
        ("azure", "nodePublishSecretRef", "it belongs to the csi volume of the pod"),
        ("azure", "enableSecretRotation", "a flag of the driver enables rotation"),
        ("vault", "kvVersion", "the secretPath of KV version 2 has data/ after the mount"),
        ("vault", "vaultRole", "did you mean roleName?"),
        ("vault", "vaultRoleName", "did you mean roleName?"),
        ("vault", "rolename", "did you mean roleName?"),
        ("vault", "vaultAdress", "did you mean vaultAddress?"),
        ("vault", "vaultAddr", "did you mean vaultAddress?"),
        ("vault", "address", "did you mean vaultAddress?"),
        ("vault", "namespace", "did you mean vaultNamespace?"),
        ("vault", "vaultMountPath", "did you mean vaultAuthMountPath?"),
        ("vault", "vaultSkipVerify", "did you mean vaultSkipTLSVerify?"),
        ("vault", "vaultCACert", "did you mean vaultCACertPath?"),
        ("vault", "vaultAudience", "did you mean audience?"),
        ("vault", "vaultCAPem", "set vaultCACertPath to its path"),
        ("vault", "kubernetesServiceAccountPath", "not read it since version 0.1.0"),
        ("vault", "array", "objects is a list without array"),
        ("vault", "keyvaultName", "it is a parameter of the azure provider"),
        ("vault", "openbaoAddress", "openbao provider; did you mean vaultAddress?"),
        ("vault", "baoRoleName", "openbao provider; did you mean roleName?"),
        ("vault", "secretPath", "it is a field of an entry of objects"),
        ("vault", "vaultToken", "a SecretProviderClass holds no credentials"),
        ("openbao", "baoAddr", "did you mean baoAddress?"),
        ("openbao", "openbaoadress", "did you mean openbaoAddress?"),
        ("openbao", "vaultNamspace", "did you mean vaultNamespace?"),
        ("openbao", "baoRole", "did you mean roleName?"),
        ("openbao", "tenantID", "it is a parameter of the azure provider"),
    ],
)
def test_unknown_parameter_is_explained(provider: str, name: str, expected: str) -> None:
    """A misspelling, a parameter of another provider or version, or a misplaced one."""
    (warning,) = warnings(provider, {name: "x"})
    assert f"spec.parameters.{name}" in warning
    assert expected in warning


@pytest.mark.parametrize(
    ("provider", "line", "expected"),
    [
        ("azure", "objectalias: x", "did you mean objectAlias?"),
        ("azure", "ObjectAlias: x", "did you mean objectAlias?"),
        ("azure", "alias: x", "did you mean objectAlias?"),
        ("azure", "encoding: base64", "it is a field of the vault provider"),
        ("azure", "filepermission: 0400", "did you mean filePermission?"),
        ("azure", "mode: 0400", "did you mean filePermission?"),
        ("azure", "objectVersionsHistory: 5", "did you mean objectVersionHistory?"),
        ("azure", "secretKey: x", "it is a field of the vault provider"),
        ("azure", "jmespath: []", "did you mean jmesPath?"),
        ("azure", "failoverObject: x", "it is a field of the aws provider"),
        ("azure", "cloudName: x", "move it to spec.parameters"),
        ("azure", "keyvaultname: x", "did you mean keyvaultName?"),
        ("azure", "vaultName: x", "did you mean keyvaultName?"),
        ("vault", "vaultCACertPath: x", "move it to spec.parameters"),
        ("vault", "address: x", "did you mean vaultAddress?"),
        ("vault", "baoAddress: x", "openbao provider; did you mean vaultAddress?"),
        ("openbao", "vaultNamepsace: x", "did you mean vaultNamespace?"),
        ("vault", "version: 3", "unless secretPath ends with ?version=N"),
        ("vault", "mountPath: kv", "secretPath begins with the mount path"),
        ("vault", "secretkey: password", "did you mean secretKey?"),
        ("vault", "secretkye: password", "did you mean secretKey?"),
        ("vault", "key: password", "did you mean secretKey?"),
        ("vault", "args: {}", "did you mean secretArgs?"),
        ("vault", "objectVersion: '1'", "unless secretPath ends with ?version=N"),
        ("vault", "objectAlias: x", "here objectName is the path of the file"),
        ("vault", "objectEncoding: hex", "azure provider; did you mean encoding?"),
        ("vault", "content: base64", "did you mean encoding?"),
        ("vault", "optinal: true", "did you mean optional?"),
        ("openbao", "SecretKey: x", "did you mean secretKey?"),
    ],
)
def test_unknown_field_of_an_object_is_explained(provider: str, line: str, expected: str) -> None:
    """The path counts entries from 0, as error messages do."""
    text = AZURE_OBJECT if provider == "azure" else VAULT_OBJECT
    (warning,) = warnings(provider, {"objects": text.format(line=line)})
    assert f"spec.parameters.objects[0].{line.partition(':')[0]}" in warning
    assert expected in warning


@pytest.mark.parametrize("provider", ["azure", "vault", "openbao"])
def test_unknown_field_of_a_template_is_explained(provider: str) -> None:
    """Otherwise everybody could read a file whose misspelled mode has no effect."""
    entry = "path: a\n  template: x\n  filePermission: '0400'\n  fileOwner: '1'\n"
    text = f"- {entry}- {entry}  filePermissions: '0400'\n  owner: '5'\n  x-note: y\n"
    second = "unknown field spec.parameters.templates[1]"
    expected = [f"{second}.filePermissions", f"{second}.owner"]
    assert expected == warnings(provider, {"templates": text})
    text = "- name: a\n  content: x\n  mode: '0400'\n  uid: '5'\n---\n- path: b\n"
    meant = {"name": "path", "content": "template", "mode": "filePermission", "uid": "fileOwner"}
    ignored, *found = warnings(provider, {"templates": text})
    assert "templates.--- has no effect: only the first YAML document is read" in ignored
    first = "unknown field spec.parameters.templates[0]"
    assert [f"{first}.{name}: did you mean {field}?" for name, field in meant.items()] == found


@pytest.mark.parametrize("templates", ["", "a: [", "x", "- 1", "a: 1", "-"])
def test_invalid_templates_are_left_to_the_mount(templates: str) -> None:
    """The mount reports them."""
    assert [] == warnings("azure", {"templates": templates})


@pytest.mark.parametrize(
    ("provider", "objects", "expected"),
    [
        ("azure", "base: &b {objectType: secret}\narray: ['{objectName: a}']", []),
        ("azure", "array:\n- |\n  base: &b {objectType: key}\n  <<: *b\n  objectName: a\n", []),
        ("azure", "x-base: b\narray: ['{objectName: a, .base: c}']", []),
        ("azure", "base: {objectType: secret}\narray: []", ["base"]),
        ("vault", "- {base: &b {secretPath: p}, <<: *b, objectName: a}", []),
        ("vault", "- {objectName: &a a, secretPath: *a, base: x}", ["base"]),
        ("vault", "- {objectName: &a a, secretPath: *a, secretargs: {}}", ["secretargs"]),
    ],
)
def test_fields_that_hold_an_anchor_are_silent(
    provider: str, objects: str, expected: list[str]
) -> None:
    """A mapping where anchors are used, and names with the prefixes of convention."""
    found = warnings(provider, {"objects": objects})
    assert len(expected) == len(found)
    assert all(name in warning for name, warning in zip(expected, found, strict=True))


def test_field_beside_array_belongs_to_an_entry() -> None:
    """Wrong indentation."""
    text = "array:\n- |\n  objectName: a\nobjectType: secret\n"
    (warning,) = warnings("azure", {"objects": text})
    assert warning.startswith("spec.parameters.objects.objectType has no effect: it is a field of")


def test_key_beside_array_is_unknown() -> None:
    """Upstream ignores it."""
    text = "array:\n- |\n  objectName: a\nArrays:\n- x\n"
    assert ["unknown field spec.parameters.objects.Arrays"] == warnings("azure", {"objects": text})


@pytest.mark.parametrize("provider", ["azure", "vault", "openbao"])
@pytest.mark.parametrize(
    "objects", ["", "a: [", "x", "- 1", "array: 1", "array: [1, '- x', 'a: [']"]
)
def test_invalid_objects_are_left_to_the_mount(provider: str, objects: str) -> None:
    """The mount reports them."""
    assert [] == warnings(provider, {"objects": objects})


def test_parameters_of_an_external_provider_are_not_judged() -> None:
    """Only it knows them."""
    assert [] == warnings("gcp", {"secrets": "...", "keyvaultName": "", "vaultAdress": ""}, "tokn")


@pytest.mark.parametrize("provider", ["azure", "vault"])
def test_number_of_warnings_is_limited(provider: str) -> None:
    """However many objects are wrong."""
    many = "".join(f"- |\n  a{n}: x\n" for n in range(3000))
    text = f"array:\n{many}" if provider == "azure" else many.replace("|\n ", "")
    assert MAX_UNKNOWN_FIELDS == len(warnings(provider, {"objects": text}))


@pytest.mark.parametrize(
    ("provider", "keys", "expected"),
    [
        ("azure", ("clientId", "ClientSecret", "other"), []),
        ("azure", ("clientid", "clientsecrett"), [("clientsecrett", "clientsecret")]),
        ("azure", ("appId", "password"), [("appId", "clientid"), ("password", "clientsecret")]),
        ("azure", ("clientid", "clientsecret", "password"), []),
        ("vault", ("role_id", "secret_id", "other", f"{KUBELET_PREFIX}x"), []),
        ("vault", ("roleId", "secret-id"), [("roleId", "role_id"), ("secret-id", "secret_id")]),
        ("vault", ("tls.cert",), [("tls.cert", "tls.crt")]),
        ("openbao", ("vault-token",), [("vault-token", "token")]),
    ],
)
def test_misspelled_keys_of_a_secret(
    provider: str, keys: tuple[str, ...], expected: list[tuple[str, str]]
) -> None:
    """Other keys may be those of other programs."""
    assert [
        f"unknown field nodePublishSecretRef.{key}: did you mean {meant}?"
        for key, meant in expected
    ] == warnings(provider, {}, *keys)


# --- Errors about missing fields name the misspelled one ------------------------------------------


def azure_error(parameters: Mapping[str, str], secrets: Mapping[str, str] | None = None) -> str:
    with pytest.raises(KeyferryError) as caught:
        parse_azure({**AZURE, **POD, **parameters}, secrets)
    return str(caught.value)


def without(name: str) -> dict[str, str]:
    return {key: value for key, value in AZURE.items() if key != name}


@pytest.mark.parametrize(
    ("required", "written", "problem"),
    [
        ("keyvaultName", "keyVaultName", "keyvaultName is not provided"),
        ("keyvaultName", "vaultName", "keyvaultName is not provided"),
        ("tenantID", "tenant", "tenantId is not provided"),
        ("objects", "Objects", "objects is not set"),
    ],
)
def test_missing_azure_parameter_names_the_misspelled_one(
    required: str, written: str, problem: str
) -> None:
    """The beginning of the message is upstream's."""
    parameters = {**without(required), **POD, "useVMManagedIdentity": "true", written: "x"}
    with pytest.raises(KeyferryError, match=problem) as caught:
        parse_azure(parameters, None)
    assert (f"{problem}; you wrote {written}", f"Rename {written} to {required}.") == (
        caught.value.problem,
        caught.value.remedy,
    )


@pytest.mark.parametrize(
    ("parameters", "secrets", "words"),
    [
        ({"clientId": "x"}, None, "not set; you wrote clientId. Rename clientId to clientID."),
        ({"useVmManagedIdentity": "true"}, None, "Rename useVmManagedIdentity to useVMManaged"),
        ({}, {"client_id": "x"}, "clientid in secrets; you wrote client_id. Rename client_id to"),
        ({}, {"clientid": "x", "password": "x"}, "Rename password to clientsecret."),
        ({"objects": "Array: []"}, {"clientid": "x", "clientsecret": "y"}, "you wrote Array"),
        (
            {"objects": "array:\n- |\n  objectName: a\n  objecttype: secret\n"},
            {"clientid": "x", "clientsecret": "y"},
            "Rename objecttype to objectType.",
        ),
        (
            {"objects": "array:\n- |\n  name: a\n  objectType: secret\n"},
            {"clientid": "x", "clientsecret": "y"},
            (
                "file name must not be empty; you wrote name (entry at index 0, line 2 of objects)"
                ". Rename name to objectName."
            ),
        ),
    ],
)
def test_missing_azure_field_names_the_misspelled_one(
    parameters: dict[str, str], secrets: dict[str, str] | None, words: str
) -> None:
    """Identities, keys of the Secret, and fields of objects."""
    assert words in azure_error(parameters, secrets)


@pytest.mark.parametrize(
    ("parameters", "secrets", "words"),
    [
        ({"vaultRole": "x"}, {}, "roleName is not set; you wrote vaultRole. Rename vaultRole to"),
        ({"roleName": "r", "Objects": "x", "objects": ""}, {}, "you wrote Objects. Rename"),
        (
            {"roleName": "r", "objects": "- {objectName: a, path: b}"},
            {},
            (
                "secretPath is missing; you wrote path (the entry at index 0, line 1 of objects). "
                "Rename path to secretPath."
            ),
        ),
        (
            {"vaultAuthMethod": "approle"},
            {"roleid": "x", "secret_id": "x"},
            "has no role_id; you wrote roleid. Rename roleid to role_id.",
        ),
    ],
)
def test_missing_vault_field_names_the_misspelled_one(
    parameters: dict[str, str], secrets: dict[str, str], words: str
) -> None:
    """Parameters, fields of objects, and keys of the Secret."""
    attributes = {"objects": "- {objectName: a, secretPath: b}", **POD, **parameters}
    with pytest.raises(KeyferryError) as caught:
        parse_vault(attributes, secrets, target_path="/t", product=VAULT, settings=VaultSettings())
    assert words in str(caught.value)


def test_empty_azure_list_stays_an_error_of_its_own() -> None:
    """Nothing resembles array."""
    assert () == read_entries("colour: red")


# --- Further documents of `objects` ---------------------------------------------------------------


@pytest.mark.parametrize(("provider", "start"), [("azure", "array: []"), ("vault", "[]")])
@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("{0}\n---\nx: y\n", 2),
        ("{0}\n# c\n...\nx\n", 3),
        ("{0}\n---\n---\nx: y\n", 2),
        ("%YAML 1.1\n---\n{0}\n--- x\n", 4),
    ],
)
def test_content_after_the_first_document_is_reported(
    provider: str, start: str, text: str, line: int
) -> None:
    """Upstream ignores it, and so does a mount."""
    assert (
        "spec.parameters.objects.--- has no effect: only the first YAML document is read; "
        f"remove line {line} or what follows it"
    ) in warnings(provider, {"objects": text.format(start)})


@pytest.mark.parametrize(
    "text", ["{0}", "{0}\n---\n", "---\n{0}\n---\n# end\n", "{0}\n...\n", "%YAML 1.1\n---\n{0}"]
)
def test_markers_around_the_first_document_are_not_reported(text: str) -> None:
    """A closing marker is no second document."""
    assert [] == [
        warning
        for warning in warnings("vault", {"objects": text.format("[]")})
        if "objects" in warning
    ]
