"""What the azure provider knows, and what it says about other fields. [pure]

Source: docs/reference/upstream-azure-provider.md#secretproviderclass-parameters
Source: docs/reference/upstream-azure-provider.md#object-fields
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.formats.unknown_fields import FieldTable, correct_missing, limited
from keyferry.formats.yaml_text import YamlError, YamlList, YamlMap, YamlScalar, read_yaml
from keyferry.providers.known_fields.entry_fields import unknown_entry_fields
from keyferry.providers.known_fields.names import (
    AZURE_OBJECT_FIELDS,
    AZURE_PARAMETERS,
    AZURE_SECRET_KEYS,
    ENTRY_NOTE,
    KUBELET_NOTES,
    KUBELET_PREFIX,
    MISPLACED_PARAMETERS,
    PARAMETER_NOTE,
    VAULT_OBJECT_FIELDS,
    VAULT_PARAMETER_SUFFIXES,
    ignored_documents,
    notes_of_other_products,
)
from keyferry.providers.known_fields.templates import unknown_template_fields
from keyferry.providers.known_fields.yaml_fields import find_in_yaml

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from keyferry.formats.unknown_fields import UnknownField

_OLD_NOTE = "the azure provider has not read it since version 0.0.4; remove it"
_FLEX_NOTE = "it is a parameter of the FlexVolume driver; list the object below objects: |"
_VAULT_NOTE = "it is a parameter of the vault provider"
_VAULT_FIELD_NOTE = "it is a field of the vault provider"

_SOURCE_SYNONYMS = {
    **dict.fromkeys(("vaultName", "keyvault", "kvName", "vault"), "keyvaultName"),
    **dict.fromkeys(("vaultURL", "vaultURI", "keyvaultURI", "keyvaultEndpoint"), "keyvaultURL"),
    **dict.fromkeys(("tenant", "aadTenantID", "azureTenantID", "directoryID"), "tenantID"),
    **dict.fromkeys(
        ("appID", "applicationID", "azureClientID", "workloadIdentityClientID"), "clientID"
    ),
}
"""Other names of what an entry of `objects` may name, too."""
PARAMETERS = FieldTable(
    AZURE_PARAMETERS,
    synonyms={
        **_SOURCE_SYNONYMS,
        **dict.fromkeys(
            ("useManagedIdentity", "useSystemAssignedIdentity", "useMSI", "useIdentity"),
            "useVMManagedIdentity",
        ),
        **dict.fromkeys(
            (
                "identityID",
                "managedIdentityID",
                "managedIdentityClientID",
                "vmManagedIdentityClientID",
                "userAssignedIdentityClientID",
                "userAssignedClientID",
            ),
            "userAssignedIdentityID",
        ),
        **dict.fromkeys(("cloud", "environment", "cloudEnvironment"), "cloudName"),
    },
    notes={
        **KUBELET_NOTES,
        **{f"vault{suffix}": _VAULT_NOTE for suffix in VAULT_PARAMETER_SUFFIXES},
        **dict.fromkeys(("roleName", "audience"), _VAULT_NOTE),
        **notes_of_other_products(is_object=False),
        **dict.fromkeys(
            (name for name in AZURE_OBJECT_FIELDS if name not in AZURE_PARAMETERS), ENTRY_NOTE
        ),
        **dict.fromkeys(("resourceGroup", "subscriptionId"), _OLD_NOTE),
        **dict.fromkeys(
            (
                f"keyvaultObject{suffix}"
                for name in ("Name", "Type", "Version", "Alias")
                for suffix in (name, f"{name}es" if name == "Alias" else f"{name}s")
            ),
            _FLEX_NOTE,
        ),
        "array": "indent array below objects: |",
        "useWorkloadIdentity": "workload identity needs no switch; clientID selects it",
        **MISPLACED_PARAMETERS,
    },
)
OBJECTS = FieldTable(
    ("array",),
    synonyms={"objects": "array", "items": "array"},
    notes={
        **dict.fromkeys(AZURE_PARAMETERS, PARAMETER_NOTE),
        **dict.fromkeys(
            AZURE_OBJECT_FIELDS, "it is a field of an entry; indent it below array: and '- |'"
        ),
        "secretObjects": "it belongs to spec, beside parameters",
    },
)
OBJECT = FieldTable(
    AZURE_OBJECT_FIELDS,
    synonyms={
        **_SOURCE_SYNONYMS,
        **dict.fromkeys(("name", "object", "secretName", "keyName", "certName"), "objectName"),
        "type": "objectType",
        **dict.fromkeys(("alias", "path", "fileName", "filePath", "objectPath"), "objectAlias"),
        "version": "objectVersion",
        "encoding": "objectEncoding",
        "format": "objectFormat",
        **dict.fromkeys(("mode", "fileMode", "permission", "permissions"), "filePermission"),
        **dict.fromkeys(("history", "versionHistory"), "objectVersionHistory"),
    },
    notes={
        **dict.fromkeys(
            (name for name in AZURE_PARAMETERS if name not in AZURE_OBJECT_FIELDS), PARAMETER_NOTE
        ),
        **dict.fromkeys(
            (name for name in VAULT_OBJECT_FIELDS if name not in AZURE_OBJECT_FIELDS),
            _VAULT_FIELD_NOTE,
        ),
        **notes_of_other_products(is_object=True),
        "secretObjects": "it belongs to spec, beside parameters",
    },
)
SECRET_KEYS = FieldTable(
    AZURE_SECRET_KEYS,
    synonyms={
        **dict.fromkeys(("appID", "applicationID", "azureClientID", "aadClientID"), "clientid"),
        **dict.fromkeys(
            ("password", "secret", "clientPassword", "azureClientSecret", "aadClientSecret"),
            "clientsecret",
        ),
        **dict.fromkeys(("certificate", "pfx", "clientPFX"), "clientcertificate"),
        "certificatePassword": "clientcertificatepassword",
    },
)

CLOUD_FILE = FieldTable(
    (
        "name",
        "activeDirectoryEndpoint",
        "keyVaultEndpoint",
        "keyVaultDNSSuffix",
        # The provider does not use the rest, which Azure SDKs read from the same file.
        "managementPortalURL",
        "publishSettingsURL",
        "serviceManagementEndpoint",
        "resourceManagerEndpoint",
        "galleryEndpoint",
        "managedHSMEndpoint",
        "graphEndpoint",
        "serviceBusEndpoint",
        "batchManagementEndpoint",
        "microsoftGraphEndpoint",
        "storageEndpointSuffix",
        "cosmosDBDNSSuffix",
        "mariaDBDNSSuffix",
        "mySqlDatabaseDNSSuffix",
        "postgresqlDatabaseDNSSuffix",
        "sqlDatabaseDNSSuffix",
        "trafficManagerDNSSuffix",
        "managedHSMDNSSuffix",
        "serviceBusEndpointSuffix",
        "serviceManagementVMDNSSuffix",
        "resourceManagerVMDNSSuffix",
        "containerRegistryDNSSuffix",
        "tokenAudience",
        "apiManagementHostNameSuffix",
        "synapseEndpointSuffix",
        "datalakeSuffix",
        "resourceIdentifiers",
    ),
    synonyms={
        **dict.fromkeys(("authority", "loginEndpoint", "adEndpoint"), "activeDirectoryEndpoint"),
        "keyVaultSuffix": "keyVaultDNSSuffix",
    },
)
"""The file of `cloudEnvFileName`."""


def unknown_fields(
    parameters: Mapping[str, str], *, path: str = "spec.parameters"
) -> tuple[UnknownField, ...]:
    """Return the parameters, and the fields of objects, that have no effect.

    Args:
        parameters: of a SecretProviderClass, or `volumeAttributes` of a pod; without the attributes
            of kubelet.
        path: of the parameters, for messages.
    """
    return limited(_unknown_fields(parameters, path))


def unknown_secret_keys(keys: Collection[str]) -> tuple[UnknownField, ...]:
    """Return the misspelled keys of a `nodePublishSecretRef` Secret, which may have others."""
    return limited(SECRET_KEYS.find_misspelled("nodePublishSecretRef", own_secret_keys(keys)))


def own_secret_keys(keys: Collection[str]) -> list[str]:
    """Return the keys of the Secret without those of kubelet, known ones in lower case."""
    own = [key for key in keys if not key.startswith(KUBELET_PREFIX)]
    return [key.casefold() if key.casefold() in AZURE_SECRET_KEYS else key for key in own]


def missing_parameter(
    required: tuple[str, ...], parameters: Mapping[str, str], remedy: str
) -> tuple[str, str]:
    """Return how the error about a missing parameter continues, and its remedy.

    Args:
        required: the parameter, or several of which one is required.
        parameters: of the mount.
        remedy: if no parameter resembles the missing one.
    """
    return correct_missing(PARAMETERS, required, parameters, remedy)


def missing_secret_key(key: str, keys: Collection[str], remedy: str) -> tuple[str, str]:
    """Return how the error about a missing key of a Secret continues, and its remedy.

    Args:
        key: the missing key.
        keys: the keys of the Secret.
        remedy: if none of them resembles the missing one.
    """
    return correct_missing(SECRET_KEYS, (key,), own_secret_keys(keys), remedy)


def _unknown_fields(parameters: Mapping[str, str], path: str) -> Iterator[UnknownField]:
    yield from PARAMETERS.find(path, parameters)
    yield from unknown_template_fields(parameters, path)
    try:
        text = parameters.get("objects", "")
        root = read_yaml(text)
    except YamlError:
        return  # the mount reports it
    yield from ignored_documents(f"{path}.objects", text)
    if not isinstance(root, YamlMap):
        return
    yield from find_in_yaml(OBJECTS, f"{path}.objects", root, text)
    array = root.entries.get("array")
    for index, item in enumerate(array.present if isinstance(array, YamlList) else ()):
        if isinstance(item, YamlScalar):
            try:
                entry = read_yaml(item.text)
            except YamlError:
                continue
            if isinstance(entry, YamlMap):
                yield from unknown_entry_fields(
                    OBJECT, f"{path}.objects[{index}]", entry, item.text
                )
