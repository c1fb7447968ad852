"""Parses and validates the parameters of a mount before any request is sent. [pure]

The checks run in upstream's order, so that two mistakes lead to the same first error.

Source: docs/reference/upstream-azure-provider.md#secretproviderclass-parameters
Source: docs/reference/upstream-azure-provider.md#order-of-checks
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from keyferry.errors import ClassInvalidError, PlatformError, Stage, excerpt
from keyferry.formats.go_values import parse_boolean
from keyferry.providers.azure.auth.identity import (
    BINDING_AUDIENCE,
    EXCHANGE_AUDIENCE,
    Identity,
    check_subject,
    profile,
)
from keyferry.providers.azure.auth.identity_params import (
    ModeSwitch,
    choose_identity,
    client_parameters,
    enabled_switch,
)
from keyferry.providers.azure.clouds import CLOUDS, AzureCloud, EnvironmentFile, find_cloud
from keyferry.providers.azure.objects import KeyVaultObject, objects_text, parse_objects
from keyferry.providers.azure.objects_yaml import EXPIRY_WARNING_KEY as EXPIRY_WARNING
from keyferry.providers.azure.objects_yaml import parse_expiry_warning
from keyferry.providers.azure.vault_address import (
    INHERITED,
    EntryVault,
    VaultAddress,
    check_tenant_syntax,
    class_vault_label,
    parse_vault_address,
)
from keyferry.providers.known_fields.attributes import POD_NAME, POD_NAMESPACE, SERVICE_ACCOUNT
from keyferry.providers.known_fields.azure import missing_parameter
from keyferry.providers.restrictions import DEFAULT_RESTRICTIONS
from keyferry.providers.sources.numbering import (
    check_source_count,
    naming_entry,
    number_sources,
)
from keyferry.records import replace
from keyferry.rendering.class_options import parse_object_defaults
from keyferry.resilience.call_context import endpoint_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keyferry.providers.restrictions import ClassRestrictions


class AzureSource(Struct, frozen=True):
    """A vault and the identity that reads it.

    Attributes:
        vault: the address of the vault.
        tenant: the Entra tenant of the identity.
        identity: the identity that reads the vault.
    """

    vault: VaultAddress
    tenant: str
    identity: Identity


class AzureMount(Struct, frozen=True):
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
    # Upstream checks the objects last. They are parsed here, because they may name other vaults.
    objects, objects_error = _objects_or_error(parameters)
    entry_vaults = tuple(dict.fromkeys(each.entry_vault for each in objects)) or (INHERITED,)
    check_source_count(entry_vaults)
    parser = _SourceParser(parameters, secrets, switch, restrictions)
    cloud: AzureCloud | EnvironmentFile = CLOUDS[0]
    identities = []
    for entry_vault in entry_vaults:
        with naming_entry(entry_vault, alone=len(entry_vaults) == 1):
            tenant = parser.check_vault_and_tenant(entry_vault)
            cloud = find_cloud(get("cloudName") or default_cloud, get("cloudEnvFileName"))
            identities.append((tenant, parser.check_identity(entry_vault)))
    if objects_error is not None:
        raise objects_error
    parsed = [
        AzureSource(parser.vault_address(entry_vault), *identity)
        for entry_vault, identity in zip(entry_vaults, identities, strict=True)
    ]
    sources, indexes = number_sources(parsed)
    if len(sources) > 1:
        index_of = dict(zip(entry_vaults, indexes, strict=True))
        objects = tuple(replace(each, source=index_of[each.entry_vault]) for each in objects)
    return AzureMount(cloud, sources, objects)


def needs_pod(parameters: Mapping[str, str]) -> bool:
    """Return whether the identity is assigned to a pod; false for malformed parameters.

    Args:
        parameters: of the SecretProviderClass.
    """
    try:
        return enabled_switch(parameters) is ModeSwitch.POD_IDENTITY
    except ClassInvalidError:
        return False


def uses_machine_identity(parameters: Mapping[str, str]) -> bool:
    """Return whether the identity is that of the machine; false for malformed parameters.

    Args:
        parameters: of the SecretProviderClass.
    """
    try:
        return enabled_switch(parameters) in (ModeSwitch.VM, ModeSwitch.ARC)
    except ClassInvalidError:
        return False


def needs_credentials(parameters: Mapping[str, str]) -> bool:
    """Return whether a service principal reads the objects; false for malformed parameters.

    Args:
        parameters: of the SecretProviderClass.
    """
    try:
        switch = enabled_switch(parameters)
    except ClassInvalidError:
        return False
    if switch is not None or parameters.get("clientID", "").strip():
        return False
    objects, error = _objects_or_error(parameters)
    return error is None and not all(each.entry_vault.client_id for each in objects)


def vault_hosts(parameters: Mapping[str, str]) -> tuple[str, ...]:
    """Return the hosts of the vaults, sorted; none for malformed parameters.

    Args:
        parameters: of the SecretProviderClass.
    """
    entry_vaults: tuple[EntryVault, ...] = (INHERITED,)
    if "keyvault" in parameters.get("objects", ""):
        entry_vaults = tuple(each.entry_vault for each in _objects_or_error(parameters)[0])
    get = _Getter(parameters)
    found = set()
    try:
        cloud = find_cloud(get("cloudName"), get("cloudEnvFileName"))
        for entry_vault in entry_vaults:
            name, url = get("keyvaultName"), get("keyvaultURL")
            if entry_vault.name or entry_vault.url:
                name, url = entry_vault.name, entry_vault.url
            address = parse_vault_address(name, url)
            if isinstance(cloud, AzureCloud):
                found.add(endpoint_of(address.netloc_in(cloud)).host)
    except ClassInvalidError:
        return ()
    return tuple(sorted(found))


def token_audiences(parameters: Mapping[str, str]) -> frozenset[str]:
    """Return the audiences of the service-account tokens that the identity mode needs.

    None for malformed parameters, which `parse_mount` reports.

    Args:
        parameters: of the SecretProviderClass.
    """
    try:
        switch = enabled_switch(parameters)
    except ClassInvalidError:
        return frozenset()
    if switch is ModeSwitch.TOKEN_PROXY:
        return frozenset({BINDING_AUDIENCE})
    if switch is not None:
        return frozenset()
    objects, _ = _objects_or_error(parameters)
    clients = [each.entry_vault.client_id for each in objects]
    exchanges = any((*clients, parameters.get("clientID", "").strip()))
    return frozenset({EXCHANGE_AUDIENCE} if exchanges else ())


def _objects_or_error(
    parameters: Mapping[str, str],
) -> tuple[tuple[KeyVaultObject, ...], ClassInvalidError | None]:
    """Return the objects; nothing and the error if they are malformed."""
    try:
        warning = parse_expiry_warning(parameters.get(EXPIRY_WARNING, ""))
        objects = parse_objects(
            objects_text(parameters),
            expiry_warning=warning,
            defaults=parse_object_defaults(parameters),
            class_vault=class_vault_label(parameters),
        )
    except ClassInvalidError as error:
        return (), error
    return objects, None


class _SourceParser(Struct, frozen=True):
    """Parses one source: the parameters, overridden by what an entry of `objects` names."""

    parameters: Mapping[str, str]
    secrets: Mapping[str, str] | None
    switch: ModeSwitch | None
    restrictions: ClassRestrictions

    def check_vault_and_tenant(self, entry_vault: EntryVault) -> str:
        """Check that a vault is named, and return the tenant."""
        parameters = self._parameters_of(entry_vault)
        get = _Getter(parameters)
        if not (get("keyvaultName") or get("keyvaultURL")):
            keys, remedy = ("keyvaultName", "keyvaultURL"), "Set it to the vault's name."
            written, remedy = missing_parameter(keys, parameters, remedy)
            raise ClassInvalidError(f"keyvaultName is not provided{written}", remedy)
        tenant = _check_tenant(get("tenantID") or get("tenantId"), parameters)
        self.restrictions.check_tenant(tenant, subject="tenantId is")
        return tenant

    def check_identity(self, entry_vault: EntryVault) -> Identity:
        """Return the identity, which is the pod's own."""
        parameters = self._parameters_of(entry_vault)
        get = _Getter(parameters)
        identity = choose_identity(self.switch, parameters, self.secrets)
        if (token := profile(identity).service_account_token) is not None:
            check_subject(
                token,
                namespace=get(POD_NAMESPACE),
                service_account=get(SERVICE_ACCOUNT),
            )
        return identity

    def vault_address(self, entry_vault: EntryVault) -> VaultAddress:
        """Return the address of the vault."""
        get = _Getter(self._parameters_of(entry_vault))
        return parse_vault_address(get("keyvaultName"), get("keyvaultURL"))

    def _parameters_of(self, entry_vault: EntryVault) -> Mapping[str, str]:
        if entry_vault.is_inherited:
            return self.parameters
        changed = dict(self.parameters)
        if entry_vault.name or entry_vault.url:
            changed |= {"keyvaultName": entry_vault.name, "keyvaultURL": entry_vault.url}
        if entry_vault.tenant:
            changed |= {"tenantID": entry_vault.tenant}
        if entry_vault.client_id:
            has_client = bool(self.parameters.get("clientID", "").strip())
            changed |= client_parameters(
                self.switch,
                entry_vault.client_id,
                from_secret=self.secrets is not None and not has_client,
            )
        return changed


class _Getter(Struct, frozen=True):
    """Returns a parameter, trimmed; "" if it is absent."""

    parameters: Mapping[str, str]

    def __call__(self, key: str) -> str:
        return self.parameters.get(key, "").strip()


def _check_tenant(tenant: str, parameters: Mapping[str, str]) -> str:
    if not tenant:
        remedy = "Set tenantID to the tenant of the vault: az account show --query tenantId."
        written, remedy = missing_parameter(("tenantID", "tenantId"), parameters, remedy)
        raise ClassInvalidError(f"tenantId is not provided{written}", remedy)
    return check_tenant_syntax(tenant)


# --- The delivery of certificate-backed secrets: parameters override flags ------------------------


class BundleOptions(Struct, frozen=True):
    """How a mount delivers certificates.

    Attributes:
        ordered_chain: whether the chain of PKCS#12 is sorted, leaf first.
        separate_files: whether certificate and key are also delivered as separate files.
    """

    ordered_chain: bool = True
    separate_files: bool = False


DEFAULT_BUNDLE_OPTIONS = BundleOptions()


def bundle_options(
    parameters: Mapping[str, str], defaults: BundleOptions = DEFAULT_BUNDLE_OPTIONS
) -> BundleOptions:
    """Return the options of a mount.

    Args:
        parameters: of the mount; they override the defaults.
        defaults: of the flags.

    Raises:
        ClassInvalidError: a parameter is not a boolean.
    """
    return BundleOptions(
        _boolean(parameters, "constructPEMChain", defaults.ordered_chain),
        _boolean(parameters, "writeCertAndKeyInSeparateFiles", defaults.separate_files),
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
