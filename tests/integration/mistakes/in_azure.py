"""Mistakes in SecretProviderClasses for Azure Key Vault, and refusals of the vault."""

from __future__ import annotations

from tests.integration.mistakes.mistake import (
    APP,
    CLIENT,
    CREDENTIALS,
    MOUNT,
    MOUNT_DEV,
    TENANT,
    Mistake,
    azure,
)

_IDENTITY = f'    useVMManagedIdentity: "true"\n    userAssignedIdentityID: {CLIENT}\n'
_TENANT = f"    tenantID: {TENANT}\n"
_VAULT = "    keyvaultName: contoso\n"
_OBJECTS = """\
    objects: |
      array:
        - |
          objectName: db-password
          objectType: secret
"""
_NAME = "          objectName: db-password\n"
_TYPE = "          objectType: secret\n"
_CREDENTIALS = f"{MOUNT_DEV} --credentials credentials.yaml"


def _with(line: str) -> tuple[str, str]:
    """Return the edit that adds a line to the object."""
    return (_TYPE, f"{_TYPE}          {line}\n")


def _object(name: str, kind: str = "secret") -> tuple[tuple[str, str], ...]:
    """Return the edits that select another object, without the Secret."""
    wanted = f"          objectName: {name}\n"
    return ((_NAME, wanted), (_TYPE, f"          objectType: {kind}\n"), *_NO_SECRET)


_SECRET = """\
  secretObjects:
    - secretName: web-db
      type: Opaque
      data:
        - objectName: db-password
          key: password
"""
_OTHER_ENTRY = _SECRET.partition("\n")[2].replace("key: password", "key: other")
_NO_SECRET = ((_SECRET, ""),)

PARAMETERS = (
    azure("The provider is unknown", ("provider: azure", "provider: azrue")),
    azure("The provider is that of another product", ("provider: azure", "provider: gcp")),
    azure("The provider is missing", ("  provider: azure\n", "")),
    azure("The provider is capitalized", ("provider: azure", "provider: Azure")),
    azure("keyvaultName is missing", (_VAULT, "")),
    azure("keyvaultName is misspelt", ("keyvaultName", "keyVaultName")),
    azure("keyvaultName is called vaultName", ("keyvaultName", "vaultName")),
    azure("keyvaultName is a URL", ("contoso", "https://contoso.vault.azure.net")),
    azure("keyvaultName has an underscore", ("contoso", "contoso_dev")),
    azure("keyvaultName is a shell variable", ("contoso", "${KEYVAULT}")),
    azure("tenantID is missing", (_TENANT, "")),
    azure("tenantID is misspelt", ("tenantID", "tenant")),
    azure("No identity is configured", (_IDENTITY, "")),
    azure("useVMManagedIdentity is misspelt", ("useVMManagedIdentity", "useVmManagedIdentity")),
    azure("A boolean without quotes", ('"true"', "true")),
    azure("A boolean that is yes", ('"true"', '"yes"')),
    azure("Two identities", ('"true"', '"true"\n    usePodIdentity: "true"')),
    azure("clientID without a service account token", (_IDENTITY, f"    clientID: {APP}\n")),
    azure("userAssignedIdentityID is unknown", (CLIENT, "55555555-0000-4000-8000-000000000005")),
    azure("cloudName is unknown", (_VAULT, _VAULT + "    cloudName: AzureGermany\n")),
    azure("objects is missing", (_OBJECTS, "")),
    azure(
        "objects is a list",
        ("objects: |\n      array:\n        - |", "objects:\n      array:\n        - |"),
    ),
    azure("array is missing", ("      array:\n", "")),
    azure(
        "array is beside objects",
        ("    objects: |\n      array:\n", "    objects: ''\n    array: |\n"),
    ),
    azure("secretObjects is below parameters", (_VAULT, _VAULT + "    secretObjects: []\n")),
    azure(
        "Nothing reads a parameter",
        (_VAULT, _VAULT + "    keyvaultname: contoso\n"),
        is_warning=True,
    ),
    azure(
        "A parameter of the vault provider",
        (_VAULT, _VAULT + "    vaultAddress: x\n"),
        is_warning=True,
    ),
    azure("parameters is a list", ("  parameters:\n", "  parameters: []\n  other:\n")),
    azure("parameters is missing", ("  parameters:\n", "  other:\n")),
    azure("A parameter is null", ("contoso", "")),
    azure("A parameter is a number", ("contoso", "2024")),
)

OBJECTS = (
    azure("objectName is missing", (_NAME, "")),
    azure("objectName is misspelt", ("          objectName: db", "          objectname: db")),
    azure(
        "objectName has an underscore",
        ("          objectName: db-password", "          objectName: db_password"),
    ),
    azure("objectType is missing", (_TYPE, "")),
    azure("objectType is unknown", (_TYPE, "          objectType: password\n")),
    azure("objectType is that of the Secret", (_TYPE, "          objectType: kubernetes.io/tls\n")),
    azure("objectAlias is misspelt", _with("objectalias: password.txt"), is_warning=True),
    azure("objectAlias leaves the volume", _with("objectAlias: ../password")),
    azure("objectAlias is absolute", _with("objectAlias: /etc/password")),
    azure("objectVersion is unknown", _with("objectVersion: 0123456789abcdef0123456789abcdef")),
    azure("objectVersion is a number", _with("objectVersion: 2")),
    azure("objectVersionHistory is not a number", _with("objectVersionHistory: two")),
    azure("objectFormat is unknown", _with("objectFormat: jks")),
    azure("objectEncoding is unknown", _with("objectEncoding: base32")),
    azure("filePermission is not octal", _with('filePermission: "0999"')),
    azure("filePermission is in words", _with("filePermission: rw-r--r--")),
    azure("optional is in words", _with("optional: maybe")),
    azure("secretKey of the vault provider", _with("secretKey: password"), is_warning=True),
    azure("Two objects in one file", (_TYPE, f"{_TYPE}        - |\n  {_NAME[2:]}{_TYPE}")),
    azure("An empty object", (_TYPE, f"{_TYPE}        - |\n")),
    azure("A folded block for an object", ("        - |\n", "        - >\n")),
    azure(
        "An object without the bar",
        (
            "        - |\n          objectName: db-password\n          objectType: secret\n",
            "        - objectName: db-password\n          objectType: secret\n",
        ),
    ),
)

SECRETS = (
    azure("secretObjects is misspelt", ("  secretObjects:", "  secretobjects:"), is_warning=True),
    azure("secretName is missing", ("    - secretName: web-db\n      type", "    - type")),
    azure("secretName is not a valid name", ("secretName: web-db", "secretName: Web_DB")),
    azure("type is missing", ("      type: Opaque\n", "")),
    azure(
        "data is missing",
        ("      data:\n        - objectName: db-password\n          key: password\n", ""),
    ),
    azure("key is missing", ("\n          key: password", "")),
    azure("key has a space", ("key: password", "key: the password")),
    azure("key is a YAML boolean", ("key: password", "key: on")),
    azure(
        "objectName matches no object",
        (
            "        - objectName: db-password\n          key",
            "        - objectName: db-pasword\n          key",
        ),
    ),
    azure(
        "A label is a number",
        ("      type: Opaque\n", "      type: Opaque\n      labels:\n        tier: 1\n"),
    ),
    azure("Two entries for one Secret", (_SECRET, _SECRET + _OTHER_ENTRY)),
    azure(
        "Two entries for one key",
        (
            "key: password\n",
            "key: password\n        - objectName: api-key\n          key: password\n",
        ),
        (_TYPE, f"{_TYPE}        - |\n          objectName: api-key\n{_TYPE}"),
    ),
    azure(
        "kubernetes.io/tls from text",
        ("type: Opaque", "type: kubernetes.io/tls"),
        ("key: password", "key: tls.crt"),
    ),
    azure(
        "ca.crt in kubernetes.io/tls",
        ("type: Opaque", "type: kubernetes.io/tls"),
        ("key: password", "key: ca.crt"),
    ),
    azure(
        "kubernetes.io/dockerconfigjson from text",
        ("type: Opaque", "type: kubernetes.io/dockerconfigjson"),
        ("key: password", "key: .dockerconfigjson"),
    ),
    azure(
        "kubernetes.io/service-account-token",
        ("type: Opaque", "type: kubernetes.io/service-account-token"),
    ),
)

REFUSALS = (
    azure("The secret does not exist", *_object("db-pasword")),
    azure("The secret is disabled", *_object("disabled")),
    azure("The secret was deleted", *_object("deleted")),
    azure("The key does not exist", *_object("signing", "key")),
    azure("The certificate does not exist", *_object("web-tls", "cert")),
    azure("The vault does not exist", ("contoso", "contosso")),
    azure("The identity has no permission", ("contoso", "fabrikam")),
    azure(
        "The vault answers 429",
        command=f"{MOUNT_DEV} --timeout 2s",
        fault="contoso.vault.azure.net 429 x1000",
    ),
    azure("The vault answers 503", fault="contoso.vault.azure.net 503 x1000"),
    azure(
        "The vault does not answer",
        command=f"{MOUNT_DEV} --timeout 2s",
        fault="contoso.vault.azure.net hang x1000",
    ),
    azure(
        "IMDS does not answer", command=f"{MOUNT_DEV} --timeout 2s", fault="/metadata hang x1000"
    ),
    azure("IMDS answers 403", fault="/metadata 403 x1000"),
    azure(
        "Entra answers 503",
        (_IDENTITY, ""),
        command=_CREDENTIALS,
        files={"credentials.yaml": CREDENTIALS},
        fault="login.microsoftonline.com 503 x1000",
    ),
    azure(
        "The client secret is wrong",
        (_IDENTITY, ""),
        command=_CREDENTIALS,
        files={"credentials.yaml": CREDENTIALS.replace("-client", "-old")},
    ),
    azure(
        "The client ID is unknown",
        (_IDENTITY, ""),
        command=_CREDENTIALS,
        files={"credentials.yaml": CREDENTIALS.replace(APP, TENANT)},
    ),
    azure(
        "clientid is misspelt",
        (_IDENTITY, ""),
        command=_CREDENTIALS,
        files={"credentials.yaml": CREDENTIALS.replace("clientid", "client_id")},
    ),
    azure(
        "The service account is not federated",
        (_IDENTITY, f"    clientID: {APP}\n"),
        command=f"{MOUNT_DEV} --service-account-tokens azure-tokens.json",
    ),
    azure("--dev-vault is not a data folder", command=f"{MOUNT} --dev-vault nowhere"),
    azure("The development vault was killed", command=f"{MOUNT} --dev-vault dead"),
)

AZURE_GROUPS: tuple[tuple[str, tuple[Mistake, ...]], ...] = (
    ("Parameters of the Azure provider", PARAMETERS),
    ("Objects in Azure Key Vault", OBJECTS),
    ("Kubernetes Secrets", SECRETS),
    ("Identities and Azure Key Vault", REFUSALS),
)
