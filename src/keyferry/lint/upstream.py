"""What the upstream driver does with fields that only Keyferry knows. [pure]

Upstream ignores unknown fields without a message, so that a file may have other content there.

Source: docs/operations/migrate.md
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.formats.yaml_text import YamlError, YamlList, YamlMap, YamlScalar, read_yaml

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from keyferry.formats.yaml_text import YamlNode

_OPTIONAL = "ignores it: a missing object fails the mount"
_ON_MISSING = "ignores it: the refresh fails while the object is missing"
_OWNER = "ignores it: files belong to root"
_OTHER_VAULT = "ignores it, and asks the vault of the SecretProviderClass for the object"

PARAMETERS: Mapping[str, str] = {
    "optional": _OPTIONAL,
    "onMissing": _ON_MISSING,
    "fileOwner": _OWNER,
    "rotationPollInterval": "ignores it: all volumes are refreshed at the interval of the driver",
    "envFile": "ignores it: the file does not exist",
    "envNames": "ignores it",
    "templates": "ignores it: the files do not exist",
    "expiryWarning": "ignores it: nobody is warned",
}
"""Parameters of every provider: what upstream does."""
AZURE_PARAMETERS: Mapping[str, str] = {
    "userAssignedIdentityObjectID": "ignores it, and uses the system-assigned identity",
    "userAssignedIdentityResourceID": "ignores it, and uses the system-assigned identity",
    "useArcManagedIdentity": "ignores it, and needs another identity",
    "constructPEMChain": "ignores it: a flag of the provider decides",
    "writeCertAndKeyInSeparateFiles": "ignores it: a flag of the provider decides",
}
VAULT_PARAMETERS: Mapping[str, str] = {
    f"{prefix}AuthMethod": "ignores it, and logs in with the service account token of the pod"
    for prefix in ("vault", "bao", "openbao")
}
FIELDS: Mapping[str, str] = {
    "optional": _OPTIONAL,
    "default": _OPTIONAL,
    "onMissing": _ON_MISSING,
    "jmesPath": "ignores it: only the file with the whole value exists",
    "expandKeys": "ignores it: the file has the whole value",
    "yaml": "ignores it",
    "fileOwner": _OWNER,
    "find": "refuses the SecretProviderClass, because objectName is missing",
    "expiryWarning": "ignores it: nobody is warned",
}
"""Fields of an entry of `objects`: what upstream does."""
AZURE_FIELDS: Mapping[str, str] = dict.fromkeys(
    ("keyvaultName", "keyvaultURL", "tenantID", "tenantId", "clientID"), _OTHER_VAULT
)
VAULT_FIELDS: Mapping[str, str] = {
    "roleName": "ignores it, and logs in with the role of the SecretProviderClass",
    **{
        f"{prefix}{suffix}": _OTHER_VAULT
        for prefix in ("vault", "bao", "openbao")
        for suffix in ("Address", "Namespace")
    },
}


def upstream_differences(
    provider: str, parameters: Mapping[str, str]
) -> Iterator[tuple[str, int | None, str]]:
    """Yield what upstream reads differently.

    Args:
        provider: `spec.provider`.
        parameters: `spec.parameters`.

    Yields:
        The parameter with None, or the field with the index of its entry of `objects`, and a clause
        that continues `the upstream driver`.
    """
    is_azure = provider == "azure"
    if not is_azure and provider not in ("vault", "openbao"):
        return
    table = {**PARAMETERS, **(AZURE_PARAMETERS if is_azure else VAULT_PARAMETERS)}
    for name in parameters:
        if name in table:
            yield name, None, table[name]
    if is_azure and parameters.get("keyvaultURL") and not parameters.get("keyvaultName"):
        yield (
            "keyvaultURL",
            None,
            "refuses the SecretProviderClass, because keyvaultName is missing",
        )
    fields = {**FIELDS, **(AZURE_FIELDS if is_azure else VAULT_FIELDS)}
    for index, entry in enumerate(object_entries(parameters.get("objects", ""), nested=is_azure)):
        for name in entry.entries:
            if name in fields:
                yield name, index, fields[name]
        if is_azure and _word(entry.entries.get("objectFormat")) == "pkcs12":
            yield "objectFormat", index, "refuses pkcs12"


def object_entries(text: str, *, nested: bool) -> Iterator[YamlMap]:
    """Yield the entries of `objects`, which Azure nests in `array`.

    Nothing if they cannot be read, which is another finding.
    """
    try:
        root: YamlNode | None = read_yaml(text)
        if nested:
            root = root.entries.get("array") if isinstance(root, YamlMap) else None
        for item in root.present if isinstance(root, YamlList) else ():
            entry = read_yaml(item.text) if nested and isinstance(item, YamlScalar) else item
            if isinstance(entry, YamlMap):
                yield entry
    except YamlError:
        return


def _word(node: YamlNode | None) -> str:
    return node.text.strip().casefold() if isinstance(node, YamlScalar) else ""
