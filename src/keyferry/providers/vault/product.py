"""The two products that speak the Vault API, and where they differ for a class. [pure]

Source: docs/reference/upstream-vault-provider.md#secretproviderclass-parameters
Source: docs/reference/upstream-vault-provider.md#openbao
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Product:
    """One product.

    Attributes:
        name: what `spec.provider` of a class says.
        title: how a person calls it.
        command: its command line, for remedies.
        param_prefixes: how parameters may begin, the first one that is there counts.
        role_keys: the parameters that may name the role, likewise.
        audience: of the service-account token, for classes that name none.
        env_prefixes: how its environment variables begin, likewise.
        default_hmac_secret: the Secret with the key of versions, where no other is named.
        runtime_name: what the provider calls itself on the wire.
        merges_cas: whether all CAs that are named count together with those of the machine, instead
            of the last ones named alone.
        has_mount_type: whether `mount_type` is part of a whole answer.
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
        """The spellings of a parameter, such as `vaultAddress`, the strongest first."""
        return tuple(prefix + suffix for prefix in self.param_prefixes)


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
