"""Parses and validates the parameters of a mount before any request is sent. [pure]

The checks run in upstream's order, so that two mistakes lead to the same first error.

Source: docs/reference/upstream-azure-provider.md#secretproviderclass-parameters
Source: docs/reference/upstream-azure-provider.md#order-of-checks
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keyferry.errors import ClassInvalidError, PlatformError, Stage, excerpt
from keyferry.formats.go_values import parse_boolean
from keyferry.providers.api import POD_NAME, POD_NAMESPACE, SERVICE_ACCOUNT
from keyferry.providers.azure.auth.identity import Identity, check_subject, profile
from keyferry.providers.azure.auth.identity_params import choose_identity, enabled_switch
from keyferry.providers.azure.clouds import AzureCloud, EnvironmentFile, find_cloud
from keyferry.providers.azure.objects import KeyVaultObject, objects_text, parse_objects
from keyferry.providers.azure.objects_yaml import EXPIRY_WARNING_KEY as EXPIRY_WARNING
from keyferry.providers.azure.objects_yaml import parse_expiry_warning
from keyferry.providers.azure.vault_address import VaultAddress, parse_vault_address
from keyferry.providers.known_fields.azure import missing_parameter
from keyferry.providers.restrictions import DEFAULT_RESTRICTIONS
from keyferry.rendering.class_options import parse_object_defaults

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keyferry.providers.restrictions import ClassRestrictions
    from keyferry.providers.settings import ProviderSettings


@dataclass(frozen=True, slots=True)
class AzureSource:
    """A vault and the identity that reads it.

    Attributes:
        vault: the address of the vault.
        tenant: the Entra tenant of the identity.
        identity: the identity that reads the vault.
    """

    vault: VaultAddress
    tenant: str
    identity: Identity


@dataclass(frozen=True, slots=True)
class AzureMount:
    """The validated parameters of one mount.

    Attributes:
        cloud: the cloud, or the file that describes it.
        sources: the vaults and identities; `KeyVaultObject.source` is an index of it.
        objects: the objects to deliver, at least one.
    """

    cloud: AzureCloud | EnvironmentFile
    sources: tuple[AzureSource, ...]
    objects: tuple[KeyVaultObject, ...]


def parse_mount(
    parameters: Mapping[str, str],
    secrets: Mapping[str, str] | None,
    *,
    default_cloud: str = "",
    restrictions: ClassRestrictions = DEFAULT_RESTRICTIONS,
) -> AzureMount:
    """Parse the parameters of a mount.

    Args:
        parameters: the attributes of the call: the parameters of the SecretProviderClass, and the
            attributes of the pod that kubelet adds.
        secrets: the data of the `nodePublishSecretRef` Secret; None without one.
        default_cloud: the cloud if `cloudName` is not set; "" for the public one.
        restrictions: names the permitted tenants.

    Raises:
        PlatformError: kubelet did not send the name and namespace of the pod.
        ClassInvalidError: a parameter is missing or malformed.
        IdentityError: a value that the identity mode requires is missing.
    """
    get = _Getter(parameters)
    for key, name in ((POD_NAME, "pod name"), (POD_NAMESPACE, "pod namespace")):
        if not get(key):
            remedy = "Set podInfoOnMount: true in the CSIDriver object."
            raise PlatformError(f"{name} is not provided", remedy, stage=Stage.REQUEST)
    switch = enabled_switch(parameters)
    vault, url = get("keyvaultName"), get("keyvaultURL")
    if not (vault or url):
        remedy = "Set it to the vault's name."
        written, remedy = missing_parameter(("keyvaultName", "keyvaultURL"), parameters, remedy)
        raise ClassInvalidError(f"keyvaultName is not provided{written}", remedy)
    tenant = _check_tenant(get("tenantID") or get("tenantId"), parameters)
    restrictions.check_tenant(tenant, subject="tenantId is")
    cloud = find_cloud(get("cloudName") or default_cloud, get("cloudEnvFileName"))
    identity = choose_identity(switch, parameters, secrets)
    if (token := profile(identity).service_account_token) is not None:
        check_subject(
            token,
            namespace=get(POD_NAMESPACE),
            service_account=get(SERVICE_ACCOUNT),
        )
    warning = parse_expiry_warning(get(EXPIRY_WARNING))
    objects = parse_objects(
        objects_text(parameters),
        expiry_warning=warning,
        defaults=parse_object_defaults(parameters),
    )
    source = AzureSource(parse_vault_address(vault, url), tenant, identity)
    return AzureMount(cloud, (source,), objects)


@dataclass(frozen=True, slots=True)
class _Getter:
    """Returns a parameter, trimmed; "" if it is absent."""

    parameters: Mapping[str, str]

    def __call__(self, key: str) -> str:
        return self.parameters.get(key, "").strip()


def _check_tenant(tenant: str, parameters: Mapping[str, str]) -> str:
    if not tenant:
        remedy = "Set tenantID to the tenant of the vault: az account show --query tenantId."
        written, remedy = missing_parameter(("tenantID", "tenantId"), parameters, remedy)
        raise ClassInvalidError(f"tenantId is not provided{written}", remedy)
    if not re.fullmatch(r"[0-9A-Za-z.-]+", tenant):
        problem = "failed to get keyvault client: tenantId is neither an ID nor a domain name"
        raise ClassInvalidError(
            problem, "Set it to the output of: az account show --query tenantId."
        )
    return tenant


# --- The delivery of certificate-backed secrets: parameters override flags ------------------------


@dataclass(frozen=True, slots=True)
class BundleOptions:
    """How a mount delivers certificates.

    Attributes:
        ordered_chain: whether the chain of PKCS#12 is sorted, leaf first.
        separate_files: whether certificate and key are also delivered as separate files.
    """

    ordered_chain: bool = True
    separate_files: bool = False


def bundle_options(parameters: Mapping[str, str], settings: ProviderSettings) -> BundleOptions:
    """Return the options of a mount: its parameters, else the flags.

    Raises:
        ClassInvalidError: a parameter is not a boolean.
    """
    return BundleOptions(
        _boolean(parameters, "constructPEMChain", settings.construct_pem_chain),
        _boolean(parameters, "writeCertAndKeyInSeparateFiles", settings.separate_files),
    )


def _boolean(parameters: Mapping[str, str], key: str, default: bool) -> bool:
    text = parameters.get(key, "").strip()
    if not text:
        return default
    value = parse_boolean(text)
    if value is None:
        raise ClassInvalidError(
            f"{key} is neither true nor false: {excerpt(text)}", 'Write "true" or "false".'
        )
    return value
