"""The table of the built-in providers. A new provider is one folder and one row here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from keyferry.providers.api import NamedFile, Provider
    from keyferry.providers.provider_parts import ProviderDependencies


@dataclass(frozen=True, slots=True)
class ProviderRow:
    """One built-in provider.

    Attributes:
        name: what `spec.provider` of a class says.
        build: makes the provider; heavy libraries are imported only here or later.
        named_files: tells from the parameters of a class alone which files a mount will produce and
            by which names `secretObjects` may refer to them; raises like the mount would. Pure.
    """

    name: str
    build: Callable[[ProviderDependencies], Provider]
    named_files: Callable[[Mapping[str, str]], tuple[NamedFile, ...]]


def _build_azure(deps: ProviderDependencies) -> Provider:
    from keyferry.providers.azure.provider import build_provider

    return build_provider(deps)


def _azure_files(parameters: Mapping[str, str]) -> tuple[NamedFile, ...]:
    from keyferry.providers.azure.files import named_files

    return named_files(parameters)


def _build_vault(deps: ProviderDependencies) -> Provider:
    from keyferry.providers.vault.provider import build_vault

    return build_vault(deps)


def _build_openbao(deps: ProviderDependencies) -> Provider:
    from keyferry.providers.vault.provider import build_openbao

    return build_openbao(deps)


def _vault_files(parameters: Mapping[str, str]) -> tuple[NamedFile, ...]:
    from keyferry.providers.vault.files import named_files

    return named_files(parameters)


PROVIDERS: tuple[ProviderRow, ...] = (
    ProviderRow(name="azure", build=_build_azure, named_files=_azure_files),
    ProviderRow(name="vault", build=_build_vault, named_files=_vault_files),
    ProviderRow(name="openbao", build=_build_openbao, named_files=_vault_files),
)


def provider_names() -> tuple[str, ...]:
    """The names of all rows, in their order."""
    return tuple(row.name for row in PROVIDERS)
