"""The table of built-in providers. A new provider needs one package and one row here."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from keyferry.errors import ClassInvalidError, KeyferryError
from keyferry.formats.unknown_fields import FieldTable
from keyferry.providers.known_fields.attributes import POD_NAME, POD_NAMESPACE

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from keyferry.aio.jobs import ParseJob
    from keyferry.content import NamedFile
    from keyferry.formats.unknown_fields import UnknownField
    from keyferry.kubernetes.objects import SecretProviderClass
    from keyferry.providers.api import Provider
    from keyferry.providers.privileges import Privileges
    from keyferry.providers.settings import ProviderDependencies


class ProviderRow(Struct, frozen=True):
    """One built-in provider.

    Attributes:
        name: value of `spec.provider` in a SecretProviderClass.
        build: creates the provider. Large libraries are imported here or later.
        named_files: returns the files that a mount will produce, from the parameters of the
            SecretProviderClass, with the names by which `secretObjects` may refer to them. It is
            pure, and raises the errors of the mount.
        unknown_fields: returns the parameters, and the fields of objects, that have no effect, from
            parameters and their path. It is pure and never raises.
        unknown_secret_keys: returns the misspelled keys of a `nodePublishSecretRef` Secret.
        check: parses the parameters as a mount does, for a pod without credentials. It is pure, and
            raises the errors of the mount.
        module: what `build` imports.
        jobs: returns the parse jobs that the provider runs.
        build_privileges: creates the privileged side of the provider, for another process.
        token_audiences: returns the audiences of the service-account tokens that the parameters of
            a SecretProviderClass require. It is pure and never raises: a mount reports what is
            wrong.
        needs_credentials: returns whether the parameters of a SecretProviderClass require a Secret
            with credentials. It is pure and never raises.
        vault_hosts: returns the vaults that the parameters of a SecretProviderClass name, as
            metrics name them. It is pure and never raises.
        has_leases: whether its volumes may use leases, which can expire before a refresh is due.
    """

    name: str
    build: Callable[[ProviderDependencies], Provider]
    named_files: Callable[[Mapping[str, str]], tuple[NamedFile, ...]]
    unknown_fields: Callable[[Mapping[str, str], str], tuple[UnknownField, ...]]
    unknown_secret_keys: Callable[[Collection[str]], tuple[UnknownField, ...]]
    check: Callable[[Mapping[str, str]], object]
    module: str
    jobs: Callable[[], tuple[ParseJob[Any, Any], ...]]
    build_privileges: Callable[[ProviderDependencies], Privileges]
    token_audiences: Callable[[Mapping[str, str]], frozenset[str]]
    needs_credentials: Callable[[Mapping[str, str]], bool]
    vault_hosts: Callable[[Mapping[str, str]], tuple[str, ...]]
    has_leases: bool = True


def _build_azure(deps: ProviderDependencies) -> Provider:
    from keyferry.providers.azure.provider import build_provider

    return build_provider(deps)


def _azure_files(parameters: Mapping[str, str]) -> tuple[NamedFile, ...]:
    from keyferry.providers.azure.objects import named_files

    return named_files(parameters)


def _unknown_azure_fields(parameters: Mapping[str, str], path: str) -> tuple[UnknownField, ...]:
    from keyferry.providers.known_fields.azure import unknown_fields

    return unknown_fields(parameters, path=path)


def _unknown_azure_keys(keys: Collection[str]) -> tuple[UnknownField, ...]:
    from keyferry.providers.known_fields.azure import unknown_secret_keys

    return unknown_secret_keys(keys)


def _check_azure(parameters: Mapping[str, str]) -> object:
    from keyferry.providers.azure.params import bundle_options, parse_mount
    from keyferry.providers.azure.vault_address import parse_vault_address

    name, url = (
        parameters.get("keyvaultName", "").strip(),
        parameters.get("keyvaultURL", "").strip(),
    )
    if name or url:
        parse_vault_address(name, url)  # before the identity, which a pod completes
    bundle_options(parameters)
    return parse_mount({**parameters, **_ANY_POD}, None)


def _check_vault(parameters: Mapping[str, str]) -> object:
    from keyferry.providers.settings import VaultSettings
    from keyferry.providers.vault.params import parse_mount
    from keyferry.providers.vault.product import VAULT

    attributes = {**parameters, **_ANY_POD}
    return parse_mount(attributes, None, target_path="/", product=VAULT, settings=VaultSettings())


def _check_openbao(parameters: Mapping[str, str]) -> object:
    from keyferry.providers.settings import VaultSettings
    from keyferry.providers.vault.params import parse_mount
    from keyferry.providers.vault.product import OPENBAO

    attributes = {**parameters, **_ANY_POD}
    return parse_mount(attributes, None, target_path="/", product=OPENBAO, settings=VaultSettings())


_ANY_POD = {POD_NAME: "pod", POD_NAMESPACE: "default"}


def _azure_jobs() -> tuple[ParseJob[Any, Any], ...]:
    from keyferry.providers.key_jobs import CLIENT_ASSERTION, KEY_MATERIAL, SERVER_CERTIFICATE
    from keyferry.providers.sources.extracting import EXTRACTION

    return KEY_MATERIAL, CLIENT_ASSERTION, EXTRACTION, SERVER_CERTIFICATE


def _build_vault(deps: ProviderDependencies) -> Provider:
    from keyferry.providers.vault.provider import build_vault

    return build_vault(deps)


def _build_openbao(deps: ProviderDependencies) -> Provider:
    from keyferry.providers.vault.provider import build_openbao

    return build_openbao(deps)


def _vault_files(parameters: Mapping[str, str]) -> tuple[NamedFile, ...]:
    from keyferry.providers.vault.objects import named_files
    from keyferry.providers.vault.product import VAULT

    return named_files(parameters, VAULT)


def _openbao_files(parameters: Mapping[str, str]) -> tuple[NamedFile, ...]:
    from keyferry.providers.vault.objects import named_files
    from keyferry.providers.vault.product import OPENBAO

    return named_files(parameters, OPENBAO)


def _unknown_vault_fields(parameters: Mapping[str, str], path: str) -> tuple[UnknownField, ...]:
    from keyferry.providers.known_fields.vault import unknown_fields
    from keyferry.providers.vault.product import VAULT

    return unknown_fields(parameters, VAULT.parameters, objects=VAULT.object_fields, path=path)


def _unknown_openbao_fields(parameters: Mapping[str, str], path: str) -> tuple[UnknownField, ...]:
    from keyferry.providers.known_fields.vault import unknown_fields
    from keyferry.providers.vault.product import OPENBAO

    objects = OPENBAO.object_fields
    return unknown_fields(parameters, OPENBAO.parameters, objects=objects, path=path)


def _unknown_vault_keys(keys: Collection[str]) -> tuple[UnknownField, ...]:
    from keyferry.providers.known_fields.vault import unknown_secret_keys

    return unknown_secret_keys(keys)


def _vault_jobs() -> tuple[ParseJob[Any, Any], ...]:
    from keyferry.providers.key_jobs import CLIENT_PEM, SERVER_CERTIFICATE
    from keyferry.providers.sources.extracting import EXTRACTION

    return CLIENT_PEM, EXTRACTION, SERVER_CERTIFICATE


def _azure_audiences(parameters: Mapping[str, str]) -> frozenset[str]:
    from keyferry.providers.azure.params import token_audiences

    return token_audiences(parameters)


def _vault_audiences(parameters: Mapping[str, str]) -> frozenset[str]:
    from keyferry.providers.vault.params import token_audiences
    from keyferry.providers.vault.product import VAULT

    return token_audiences(parameters, VAULT)


def _openbao_audiences(parameters: Mapping[str, str]) -> frozenset[str]:
    from keyferry.providers.vault.params import token_audiences
    from keyferry.providers.vault.product import OPENBAO

    return token_audiences(parameters, OPENBAO)


def _azure_needs_credentials(parameters: Mapping[str, str]) -> bool:
    from keyferry.providers.azure.params import needs_credentials

    return needs_credentials(parameters)


def _vault_needs_credentials(parameters: Mapping[str, str]) -> bool:
    from keyferry.providers.vault.params import needs_credentials
    from keyferry.providers.vault.product import VAULT

    return needs_credentials(parameters, VAULT)


def _openbao_needs_credentials(parameters: Mapping[str, str]) -> bool:
    from keyferry.providers.vault.params import needs_credentials
    from keyferry.providers.vault.product import OPENBAO

    return needs_credentials(parameters, OPENBAO)


def _azure_hosts(parameters: Mapping[str, str]) -> tuple[str, ...]:
    from keyferry.providers.azure.params import vault_hosts

    return vault_hosts(parameters)


def _vault_hosts(parameters: Mapping[str, str]) -> tuple[str, ...]:
    from keyferry.providers.vault.params import vault_hosts
    from keyferry.providers.vault.product import VAULT

    return vault_hosts(parameters, VAULT)


def _openbao_hosts(parameters: Mapping[str, str]) -> tuple[str, ...]:
    from keyferry.providers.vault.params import vault_hosts
    from keyferry.providers.vault.product import OPENBAO

    return vault_hosts(parameters, OPENBAO)


def _azure_privileges(deps: ProviderDependencies) -> Privileges:
    from keyferry.providers.azure.auth.machine import AzurePrivileges

    return AzurePrivileges.of(deps.emulator)


def _vault_privileges(deps: ProviderDependencies) -> Privileges:
    from keyferry.providers.vault.privileges import VaultPrivileges

    return VaultPrivileges(deps.settings.vault, deps.https, deps.fetcher.transport)


def _openbao_privileges(deps: ProviderDependencies) -> Privileges:
    from keyferry.providers.vault.privileges import VaultPrivileges

    return VaultPrivileges(deps.settings.openbao, deps.https, deps.fetcher.transport)


PROVIDERS: tuple[ProviderRow, ...] = (
    ProviderRow(
        name="azure",
        module="keyferry.providers.azure.provider",
        build=_build_azure,
        named_files=_azure_files,
        unknown_fields=_unknown_azure_fields,
        unknown_secret_keys=_unknown_azure_keys,
        check=_check_azure,
        jobs=_azure_jobs,
        build_privileges=_azure_privileges,
        token_audiences=_azure_audiences,
        needs_credentials=_azure_needs_credentials,
        vault_hosts=_azure_hosts,
        has_leases=False,
    ),
    ProviderRow(
        name="vault",
        module="keyferry.providers.vault.provider",
        build=_build_vault,
        named_files=_vault_files,
        unknown_fields=_unknown_vault_fields,
        unknown_secret_keys=_unknown_vault_keys,
        check=_check_vault,
        jobs=_vault_jobs,
        build_privileges=_vault_privileges,
        token_audiences=_vault_audiences,
        needs_credentials=_vault_needs_credentials,
        vault_hosts=_vault_hosts,
    ),
    ProviderRow(
        name="openbao",
        module="keyferry.providers.vault.provider",
        build=_build_openbao,
        named_files=_openbao_files,
        unknown_fields=_unknown_openbao_fields,
        unknown_secret_keys=_unknown_vault_keys,
        check=_check_openbao,
        jobs=_vault_jobs,
        build_privileges=_openbao_privileges,
        token_audiences=_openbao_audiences,
        needs_credentials=_openbao_needs_credentials,
        vault_hosts=_openbao_hosts,
    ),
)


_SYNONYMS = {
    **dict.fromkeys(("keyvault", "azure-keyvault", "azure-key-vault", "akv"), "azure"),
    **dict.fromkeys(("hashicorp", "hashicorp-vault", "hcvault"), "vault"),
    "bao": "openbao",
}
"""Other names of providers, for suggestions."""


def suggest_provider(name: str, known: Sequence[str]) -> str:
    """Return the one of the `known` providers that was probably meant; "" for none."""
    return FieldTable(known, synonyms=_SYNONYMS).suggest(name, ())


def provider_names() -> tuple[str, ...]:
    """Return the names of the built-in providers, in the order of the table."""
    return tuple(row.name for row in PROVIDERS)


def has_leases(name: str) -> bool:
    """Return whether volumes of the provider `name` may use leases; True if it is unknown."""
    return all(row.has_leases for row in PROVIDERS if row.name == name)


def preload(names: Iterable[str]) -> None:
    """Import the providers of these names, so that child processes share their memory."""
    for row in PROVIDERS:
        if row.name in names:
            import_module(row.module)


def parse_jobs() -> dict[str, ParseJob[Any, Any]]:
    """Return the parse jobs of all providers by name."""
    return {job.name: job for row in PROVIDERS for job in row.jobs()}


def check_without_pod(spc: SecretProviderClass) -> None:
    """Check that a class can be read without a pod.

    Args:
        spc: the SecretProviderClass.

    Raises:
        ClassInvalidError: its identity is assigned to pods.
    """
    from keyferry.providers.azure.params import needs_pod

    if spc.provider == "azure" and needs_pod(spc.parameters):
        raise ClassInvalidError(
            "usePodIdentity selects the identity of a pod, and a SecretSync has no pod",
            "Use workload identity: set clientID, and federate it with the service account.",
        )


def uses_machine_identity(spc: SecretProviderClass) -> bool:
    """Return whether a class reads as the machine on which its provider runs.

    Args:
        spc: the SecretProviderClass.
    """
    from keyferry.providers.azure.params import uses_machine_identity as is_azure_machine

    return spc.provider == "azure" and is_azure_machine(spc.parameters)


def token_audiences(spc: SecretProviderClass) -> frozenset[str] | None:
    """Return the audiences of the tokens that a class needs; None if they are not known.

    Args:
        spc: the SecretProviderClass.
    """
    for row in PROVIDERS:
        if row.name == spc.provider:
            return row.token_audiences(spc.parameters)
    return None


def needs_credentials(spc: SecretProviderClass) -> bool:
    """Return whether a class needs a Secret with credentials; false if that is not known.

    Args:
        spc: the SecretProviderClass.
    """
    rows = (row for row in PROVIDERS if row.name == spc.provider)
    return any(row.needs_credentials(spc.parameters) for row in rows)


def vault_hosts(spc: SecretProviderClass) -> tuple[str, ...]:
    """Return the vaults that a class names, as metrics name them; none if they are not known.

    Args:
        spc: the SecretProviderClass.
    """
    rows = (row for row in PROVIDERS if row.name == spc.provider)
    return next((row.vault_hosts(spc.parameters) for row in rows), ())


def unknown_fields(
    spc: SecretProviderClass, *, secret_keys: Collection[str] = ()
) -> tuple[UnknownField, ...]:
    """Return all fields of a SecretProviderClass that have no effect.

    The parameters of a provider that is not built in are unknown, so nothing is said about them.

    Args:
        spc: the SecretProviderClass.
        secret_keys: of the Secret that `nodePublishSecretRef` names; misspelled ones are returned.
    """
    found = spc.unknown_fields
    for row in PROVIDERS:
        if row.name == spc.provider:
            found += row.unknown_fields(spc.parameters, "spec.parameters")
            found += row.unknown_secret_keys(secret_keys)
    return found


def class_problem(spc: SecretProviderClass) -> ClassInvalidError | None:
    """Return why no pod can mount a SecretProviderClass; None if its provider is not built in.

    What depends on the pod, its service account or its Secret is not checked.

    Args:
        spc: the SecretProviderClass.
    """
    for row in PROVIDERS:
        if row.name == spc.provider:
            for parse in (row.named_files, row.check):
                try:
                    parse(spc.parameters)
                except ClassInvalidError as error:
                    return error
                except KeyferryError:  # credentials, which a pod has
                    continue
    return None


def files_of(spc: SecretProviderClass) -> tuple[NamedFile, ...] | None:
    """Return the files of a SecretProviderClass; None if they are not known.

    Args:
        spc: the SecretProviderClass.
    """
    for row in PROVIDERS:
        if row.name == spc.provider:
            try:
                return row.named_files(spc.parameters)
            except KeyferryError:
                return None
    return None
