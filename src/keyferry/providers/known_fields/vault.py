"""What the vault and openbao providers know, and what they say about other fields. [pure]

Source: docs/reference/upstream-vault-provider.md#secretproviderclass-parameters
Source: docs/reference/upstream-vault-provider.md#objects
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from keyferry.formats.unknown_fields import FieldTable, limited
from keyferry.formats.yaml_text import YamlError, YamlList, YamlMap, read_yaml
from keyferry.providers.known_fields.entry_fields import unknown_entry_fields
from keyferry.providers.known_fields.names import (
    AZURE_OBJECT_FIELDS,
    AZURE_PARAMETERS,
    ENTRY_NOTE,
    KUBELET_NOTES,
    KUBELET_PREFIX,
    MISPLACED_PARAMETERS,
    PARAMETER_NOTE,
    VAULT_ENTRY_SUFFIXES,
    VAULT_OBJECT_FIELDS,
    VAULT_PARAMETER_SUFFIXES,
    VAULT_PARAMETERS,
    VAULT_SECRET_KEYS,
    ignored_documents,
    notes_of_other_products,
)
from keyferry.providers.known_fields.templates import unknown_template_fields

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from keyferry.formats.unknown_fields import UnknownField

_ALL_PREFIXES = ("vault", "bao", "openbao")
_OLD_NOTE = "the vault provider has not read it since version 0.1.0"
_SYNONYMS_BY_SUFFIX = {
    "Address": ("Addr", "URL", "URI", "Server", "Host", "Endpoint"),
    "AuthMountPath": ("MountPath", "Mount", "AuthPath", "AuthMount", "K8sMountPath"),
    "CACertPath": ("CACert", "CA", "CAFile", "CACertFile", "TLSCACert"),
    "CADirectory": ("CAPath", "CADir", "TLSCADirectory"),
    "TLSServerName": ("ServerName", "SNI"),
    "TLSClientCertPath": ("ClientCert", "ClientCertPath", "TLSCert", "TLSClientCert"),
    "TLSClientKeyPath": ("ClientKey", "ClientKeyPath", "TLSKey", "TLSClientKey"),
    "SkipTLSVerify": ("SkipVerify", "TLSSkipVerify", "Insecure", "InsecureSkipVerify"),
    "AuthMethod": ("AuthType", "AuthMode"),
}
"""Other names of parameters, with any prefix or none."""


@lru_cache
def parameters_table(prefixes: tuple[str, ...], role_keys: tuple[str, ...]) -> FieldTable:
    """Return the parameters of a product.

    Args:
        prefixes: of its parameters, in order of precedence.
        role_keys: its parameters that name the role.
    """
    known = (
        *role_keys,
        *(prefix + suffix for prefix in prefixes for suffix in VAULT_PARAMETER_SUFFIXES),
        *VAULT_PARAMETERS,
    )
    main = "vault" if "vault" in prefixes else prefixes[0]
    synonyms = {
        prefix + name: (prefix if prefix in prefixes else main) + suffix
        for suffix in VAULT_PARAMETER_SUFFIXES
        for name in (suffix, *_SYNONYMS_BY_SUFFIX.get(suffix, ()))
        for prefix in (*_ALL_PREFIXES, "")
        if prefix + name not in known
    }
    synonyms |= dict.fromkeys(
        ("role", "authRole", *(f"{prefix}Role" for prefix in _ALL_PREFIXES)), "roleName"
    )
    synonyms |= {f"{prefix}RoleName": "roleName" for prefix in _ALL_PREFIXES}
    synonyms |= {f"{prefix}Audience": "audience" for prefix in _ALL_PREFIXES}
    synonyms |= {"tokenAudience": "audience", "serviceAccountAudience": "audience"}
    return FieldTable(known, synonyms=synonyms, notes=_parameter_notes(known))


def _parameter_notes(known: Collection[str]) -> dict[str, str]:
    azure = "it is a parameter of the azure provider"
    openbao = "it is a parameter of the openbao provider"
    notes = {
        **KUBELET_NOTES,
        **dict.fromkeys(AZURE_PARAMETERS, azure),
        **notes_of_other_products(is_object=False),
        **dict.fromkeys(VAULT_OBJECT_FIELDS, ENTRY_NOTE),
        **{
            prefix + suffix: openbao
            for prefix in ("bao", "openbao")
            for suffix in (*VAULT_PARAMETER_SUFFIXES, "RoleName")
        },
        **dict.fromkeys(
            ("kubernetesServiceAccountPath", "vaultKubernetesServiceAccountPath"),
            f"{_OLD_NOTE}: the pod's own service account logs in; remove it",
        ),
        "vaultCAPem": f"{_OLD_NOTE}: mount the CA as a file and set vaultCACertPath to its path",
        "array": "objects is a list without array; indent its items below objects: |",
        **dict.fromkeys(
            ("kvVersion", "vaultKVVersion", "vaultKvEngineVersion"),
            "no parameter selects it: the secretPath of KV version 2 has data/ after the mount",
        ),
        **MISPLACED_PARAMETERS,
    }
    return {name: note for name, note in notes.items() if name not in known}


@lru_cache
def object_table(prefixes: tuple[str, ...], role_keys: tuple[str, ...]) -> FieldTable:
    """Return the fields of an object of a product.

    Args:
        prefixes: of its parameters, in order of precedence.
        role_keys: its parameters that name the role.
    """
    known = (
        *VAULT_OBJECT_FIELDS,
        *role_keys,
        *(prefix + suffix for prefix in prefixes for suffix in VAULT_ENTRY_SUFFIXES),
    )
    main = "vault" if "vault" in prefixes else prefixes[0]
    synonyms = _OBJECT_SYNONYMS | {
        prefix + name: (prefix if prefix in prefixes else main) + suffix
        for suffix in VAULT_ENTRY_SUFFIXES
        for name in (suffix, *_SYNONYMS_BY_SUFFIX.get(suffix, ()))
        for prefix in (*_ALL_PREFIXES, "")
        if prefix + name not in known
    }
    synonyms |= {
        f"{prefix}{name}": "roleName"
        for name in ("Role", "RoleName")
        for prefix in _ALL_PREFIXES
        if f"{prefix}{name}" not in known
    }
    synonyms |= dict.fromkeys(("role", "authRole"), "roleName")
    notes = {name: note for name, note in _OBJECT_NOTES.items() if name not in known}
    return FieldTable(known, synonyms=synonyms, notes=notes)


_VERSION_NOTE = "the newest version is read, unless secretPath ends with ?version=N"
_AZURE_NOTE = "it is a field of the azure provider"
_OBJECT_SYNONYMS = {
    **dict.fromkeys(("name", "object", "fileName", "alias"), "objectName"),
    **dict.fromkeys(("path", "objectPath"), "secretPath"),
    **dict.fromkeys(("key", "field", "secretField", "property"), "secretKey"),
    **dict.fromkeys(("args", "arguments", "data", "body", "secretData"), "secretArgs"),
    **dict.fromkeys(("mode", "fileMode", "permission", "permissions"), "filePermission"),
    "httpMethod": "method",
    **dict.fromkeys(("objectEncoding", "content", "contentEncoding"), "encoding"),
}
_OBJECT_NOTES = {
    **notes_of_other_products(is_object=True),
    **dict.fromkeys(AZURE_OBJECT_FIELDS, _AZURE_NOTE),
    "objectVersion": f"{_AZURE_NOTE}; {_VERSION_NOTE}",
    "version": _VERSION_NOTE,
    **dict.fromkeys(("engine", "mount", "mountPath"), "secretPath begins with the mount path"),
    **dict.fromkeys(
        (
            *VAULT_PARAMETERS,
            *(
                prefix + suffix
                for prefix in _ALL_PREFIXES
                for suffix in VAULT_PARAMETER_SUFFIXES
                if suffix not in VAULT_ENTRY_SUFFIXES
            ),
        ),
        PARAMETER_NOTE,
    ),
    **{
        prefix + suffix: "it is a field of the openbao provider"
        for prefix in ("bao", "openbao")
        for suffix in (*VAULT_ENTRY_SUFFIXES, "RoleName")
    },
    "objectAlias": f"{_AZURE_NOTE}; here objectName is the path of the file",
    "objectPath": "it is called secretPath since version 0.1.0 of the vault provider",
    "secretObjects": "it belongs to spec, beside parameters",
}
OBJECT = object_table(("vault",), ("roleName",))
"""The fields of an object of the vault provider."""
SECRET_KEYS = FieldTable(
    VAULT_SECRET_KEYS,
    synonyms={
        "role": "role_id",
        "secret": "secret_id",
        "certificate": "tls.crt",
        "cert": "tls.crt",
        "key": "tls.key",
        "privateKey": "tls.key",
        **dict.fromkeys(("vaultToken", "baoToken", "openbaoToken"), "token"),
    },
)


def unknown_fields(
    parameters: Mapping[str, str],
    table: FieldTable,
    *,
    objects: FieldTable = OBJECT,
    path: str = "spec.parameters",
) -> tuple[UnknownField, ...]:
    """Return the parameters, and the fields of objects, that have no effect.

    Args:
        parameters: of a SecretProviderClass, or `volumeAttributes` of a pod; without the attributes
            of kubelet.
        table: the parameters of the product.
        objects: the fields of its objects.
        path: of the parameters, for messages.
    """
    return limited(_unknown_fields(parameters, table, objects, path))


def unknown_secret_keys(keys: Collection[str]) -> tuple[UnknownField, ...]:
    """Return the misspelled keys of a `nodePublishSecretRef` Secret, which may have others."""
    own = [key for key in keys if not key.startswith(KUBELET_PREFIX)]
    return limited(SECRET_KEYS.find_misspelled("nodePublishSecretRef", own))


def _unknown_fields(
    parameters: Mapping[str, str], table: FieldTable, objects: FieldTable, path: str
) -> Iterator[UnknownField]:
    yield from table.find(path, parameters)
    yield from unknown_template_fields(parameters, path)
    try:
        text = parameters.get("objects", "")
        root = read_yaml(text)
    except YamlError:
        return  # the mount reports it
    yield from ignored_documents(f"{path}.objects", text)
    if isinstance(root, YamlList):
        for index, item in enumerate(root.present):
            if isinstance(item, YamlMap):
                yield from unknown_entry_fields(objects, f"{path}.objects[{index}]", item, text)
