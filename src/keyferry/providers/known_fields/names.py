"""The names of all parameters and fields of objects, by provider. [pure]

docs/reference/azure.md and docs/reference/vault.md list the same names; a test checks it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from keyferry.formats.unknown_fields import UnknownField
from keyferry.providers.known_fields.attributes import (
    POD_NAME,
    POD_NAMESPACE,
    POD_UID,
    SERVICE_ACCOUNT,
    SERVICE_ACCOUNT_TOKENS,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

KUBELET_PREFIX = "csi.storage.k8s.io/"
"""The prefix of attributes that only kubelet may set."""
KUBELET_ATTRIBUTES = (
    POD_NAME,
    POD_NAMESPACE,
    POD_UID,
    SERVICE_ACCOUNT,
    SERVICE_ACCOUNT_TOKENS,
    f"{KUBELET_PREFIX}ephemeral",
)
KUBELET_NOTES = dict.fromkeys(KUBELET_ATTRIBUTES, "only kubelet may set it")

COMMON_PARAMETERS = (
    "optional",
    "onMissing",
    "fileOwner",
    "rotationPollInterval",
    "envFile",
    "envNames",
    "templates",
)
"""Parameters of every provider."""
COMMON_OBJECT_FIELDS = (
    "optional",
    "default",
    "onMissing",
    "jmesPath",
    "expandKeys",
    "yaml",
    "fileOwner",
    "find",
    "rewrite",
    "maxObjects",
)
"""Fields of an object of every built-in provider."""

AZURE_PARAMETERS = (
    *COMMON_PARAMETERS,
    "keyvaultName",
    "keyvaultURL",
    "tenantID",
    "tenantId",
    "objects",
    "clientID",
    "useVMManagedIdentity",
    "userAssignedIdentityID",
    "userAssignedIdentityObjectID",
    "userAssignedIdentityResourceID",
    "cloudName",
    "cloudEnvFileName",
    "usePodIdentity",
    "useAzureTokenProxy",
    "useArcManagedIdentity",
    "constructPEMChain",
    "writeCertAndKeyInSeparateFiles",
    "expiryWarning",
)
AZURE_OBJECT_FIELDS = (
    *COMMON_OBJECT_FIELDS,
    "objectName",
    "objectType",
    "objectAlias",
    "objectVersion",
    "objectEncoding",
    "filePermission",
    "objectFormat",
    "objectVersionHistory",
    "keyvaultName",
    "keyvaultURL",
    "tenantID",
    "tenantId",
    "clientID",
    "expiryWarning",
)
AZURE_SECRET_KEYS = ("clientid", "clientsecret", "clientcertificate", "clientcertificatepassword")
"""Keys of the `nodePublishSecretRef` Secret; their case does not matter."""

VAULT_PARAMETER_SUFFIXES = (
    "Address",
    "Namespace",
    "AuthMountPath",
    "KubernetesMountPath",
    "CACertPath",
    "CADirectory",
    "TLSServerName",
    "TLSClientCertPath",
    "TLSClientKeyPath",
    "SkipTLSVerify",
    "AuthMethod",
)
"""Parameters with the prefix of a product, such as `vaultAddress`."""
VAULT_ENTRY_SUFFIXES = ("Address", "Namespace")
"""Those that are also fields of an object, like the name of the role."""
VAULT_PARAMETERS = (*COMMON_PARAMETERS, "audience", "objects")
"""Parameters without a prefix, beside the name of the role."""
VAULT_OBJECT_FIELDS = (
    *COMMON_OBJECT_FIELDS,
    "objectName",
    "secretPath",
    "secretKey",
    "method",
    "secretArgs",
    "filePermission",
    "encoding",
)
VAULT_SECRET_KEYS = ("role_id", "secret_id", "tls.crt", "tls.key", "token")
"""Keys of the `nodePublishSecretRef` Secret, of all auth methods."""

AWS_PARAMETERS = ("region", "failoverRegion", "pathTranslation", "preferredAddressType")
AWS_OBJECT_FIELDS = ("objectVersionLabel", "failoverObject")
GCP_PARAMETERS = ("auth", "secrets")
GCP_OBJECT_FIELDS = ("resourceName", "fileName")


def notes_of_other_products(*, is_object: bool) -> dict[str, str]:
    """Return a note on each parameter, or field of an object, of providers that are not built in.

    Args:
        is_object: whether the mapping is an entry of `objects`.
    """
    kind = "a field" if is_object else "a parameter"
    aws = AWS_OBJECT_FIELDS if is_object else AWS_PARAMETERS
    gcp = GCP_OBJECT_FIELDS if is_object else GCP_PARAMETERS
    return {
        **dict.fromkeys(aws, f"it is {kind} of the aws provider"),
        **dict.fromkeys(gcp, f"it is {kind} of the gcp provider"),
    }


_CREDENTIAL_NOTE = (
    "a SecretProviderClass holds no credentials; put it into a Secret and name that in"
    " nodePublishSecretRef of the volume"
)
PARAMETER_NOTE = "it is a parameter of the whole SecretProviderClass; move it to spec.parameters"
MISPLACED_PARAMETERS = {
    "secretObjects": "it belongs to spec, beside parameters",
    "provider": "it belongs to spec, beside parameters",
    "providerName": "spec.provider of the SecretProviderClass names the provider",
    "nodePublishSecretRef": "it belongs to the csi volume of the pod",
    "secretProviderClass": "it belongs to volumeAttributes of the csi volume of the pod",
    **dict.fromkeys(
        ("enableSecretRotation", "rotation"),
        "a flag of the driver enables rotation; rotationPollInterval sets the interval of one"
        " SecretProviderClass",
    ),
    **dict.fromkeys(
        ("clientSecret", "clientCertificate", "roleID", "secretID", "token", "vaultToken"),
        _CREDENTIAL_NOTE,
    ),
}
"""Notes on parameters that belong elsewhere, whatever the provider."""
ENTRY_NOTE = "it is a field of an entry of objects; indent it below objects: |"


_MARKER = re.compile(r"(---|\.\.\.)(\s|$)")


def ignored_documents(path: str, text: str) -> Iterator[UnknownField]:
    """Yield the first marker in the YAML `text` behind which content is ignored.

    Args:
        path: of the text, for messages.
        text: YAML; only its first document is read, as upstream does.
    """
    started, marker = False, 0
    for number, line in enumerate(text.splitlines(), start=1):
        content = "" if line.startswith("%") else line.partition("#")[0].strip()
        if _MARKER.match(line):
            marker = marker or (number if started else 0)
            content = content[3:]
        started = started or bool(content)
        if marker and content:
            note = f"only the first YAML document is read; remove line {marker} or what follows it"
            yield UnknownField(path, "---", note=note)
            return
