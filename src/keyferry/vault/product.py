"""The two products that speak the Vault API, and where they differ for a class. [pure]

Source: vault, sections 1.5 and 3 (OpenBao).
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
        prefixes: how parameters may begin, the first one that is there counts.
        role_keys: the parameters that may name the role, likewise.
        audience: of the service-account token, for classes that name none.
        environment: how its environment variables begin, likewise.
        hmac_secret: the Secret with the key of versions, where no other is named.
        runtime_name: what the provider calls itself on the wire.
        merges_cas: whether all CAs that are named count together with those of the machine, instead
            of the last ones named alone.
        tells_mount_type: whether `mount_type` is part of a whole answer.
    """

    name: str
    title: str
    command: str
    prefixes: tuple[str, ...]
    role_keys: tuple[str, ...]
    audience: str
    environment: tuple[str, ...]
    hmac_secret: str
    runtime_name: str
    merges_cas: bool
    tells_mount_type: bool

    def keys(self, suffix: str) -> tuple[str, ...]:
        """The spellings of a parameter, such as `vaultAddress`, the strongest first."""
        return tuple(prefix + suffix for prefix in self.prefixes)


VAULT = Product(
    name="vault",
    title="Vault",
    command="vault",
    prefixes=("vault",),
    role_keys=("roleName",),
    audience="vault",
    environment=("VAULT_",),
    hmac_secret="vault-csi-provider-hmac-key",  # noqa: S106 - its name
    runtime_name="vault-csi-provider",
    merges_cas=False,
    tells_mount_type=True,
)
OPENBAO = Product(
    name="openbao",
    title="OpenBao",
    command="bao",
    prefixes=("bao", "openbao", "vault"),
    role_keys=("baoRoleName", "openbaoRoleName", "vaultRoleName", "roleName"),
    audience="openbao",
    environment=("BAO_", "VAULT_"),
    hmac_secret="openbao-csi-provider-hmac-key",  # noqa: S106 - its name
    runtime_name="openbao-csi-provider",
    merges_cas=True,
    tells_mount_type=False,
)
