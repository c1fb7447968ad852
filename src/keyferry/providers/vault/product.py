"""The two products that implement the Vault API, and their differences. [pure]

Source: docs/reference/upstream-vault-provider.md#secretproviderclass-parameters
Source: docs/reference/upstream-vault-provider.md#openbao
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from keyferry.providers.known_fields.vault import object_table, parameters_table

if TYPE_CHECKING:
    from keyferry.formats.unknown_fields import FieldTable


class Product(Struct, frozen=True):
    """One product and its conventions.

    Prefixes and keys are in order of precedence.

    Attributes:
        name: value of `spec.provider` in a SecretProviderClass.
        title: name of the product in messages.
        command: name of its command line tool, for remedies.
        param_prefixes: prefixes of SecretProviderClass parameters.
        role_keys: parameters that name the role of the auth method.
        audience: default audience of the service-account token.
        env_prefixes: prefixes of environment variables.
        default_hmac_secret: default name of the Secret with the HMAC key for object versions.
        runtime_name: name of the provider in the provider protocol.
        merges_cas: whether the CAs of all layers and of the system are trusted, instead of only the
            last ones that are set.
        has_mount_type: whether a file with the whole response includes `mount_type`.
    """

    name: str
    title: str
    command: str
    param_prefixes: tuple[str, ...]
    role_keys: tuple[str, ...]
    audience: str
    env_prefixes: tuple[str, ...]
    default_hmac_secret: str
    runtime_name: str
    merges_cas: bool
    has_mount_type: bool

    def spellings(self, suffix: str) -> tuple[str, ...]:
        """Return the spellings of a parameter, such as `vaultAddress`, in order of precedence.

        Args:
            suffix: name of the parameter without its prefix, such as `Address`.
        """
        return tuple(prefix + suffix for prefix in self.param_prefixes)

    @property
    def parameters(self) -> FieldTable:
        """The parameters of a SecretProviderClass."""
        return parameters_table(self.param_prefixes, self.role_keys)

    @property
    def object_fields(self) -> FieldTable:
        """The fields of an entry of `objects`."""
        return object_table(self.param_prefixes, self.role_keys)


VAULT = Product(
    name="vault",
    title="Vault",
    command="vault",
    param_prefixes=("vault",),
    role_keys=("roleName",),
    audience="vault",
    env_prefixes=("VAULT_",),
    default_hmac_secret="vault-csi-provider-hmac-key",  # noqa: S106 - its name
    runtime_name="vault-csi-provider",
    merges_cas=False,
    has_mount_type=True,
)
OPENBAO = Product(
    name="openbao",
    title="OpenBao",
    command="bao",
    param_prefixes=("bao", "openbao", "vault"),
    role_keys=("baoRoleName", "openbaoRoleName", "vaultRoleName", "roleName"),
    audience="openbao",
    env_prefixes=("BAO_", "VAULT_"),
    default_hmac_secret="openbao-csi-provider-hmac-key",  # noqa: S106 - its name
    runtime_name="openbao-csi-provider",
    merges_cas=True,
    has_mount_type=False,
)
