"""What a mistake is, and the correct files that it starts from.

A mistake is a correct SecretProviderClass with one edit, or a command that is wrong in one place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

TENANT = "11111111-0000-4000-8000-000000000000"
CLIENT = "22222222-0000-4000-8000-000000000002"
APP = "33333333-0000-4000-8000-000000000003"
CANARY = "canary-5d0c7e"

AZURE = f"""\
apiVersion: secrets-store.csi.x-k8s.io/v1
kind: SecretProviderClass
metadata:
  name: web
  namespace: shop
spec:
  provider: azure
  secretObjects:
    - secretName: web-db
      type: Opaque
      data:
        - objectName: db-password
          key: password
  parameters:
    keyvaultName: contoso
    tenantID: {TENANT}
    useVMManagedIdentity: "true"
    userAssignedIdentityID: {CLIENT}
    objects: |
      array:
        - |
          objectName: db-password
          objectType: secret
"""

VAULT = """\
apiVersion: secrets-store.csi.x-k8s.io/v1
kind: SecretProviderClass
metadata:
  name: web
  namespace: shop
spec:
  provider: vault
  parameters:
    vaultAddress: {vault}
    roleName: shop
    objects: |
      - objectName: password
        secretPath: secret/data/db
        secretKey: password
"""

CREDENTIALS = f"""\
apiVersion: v1
kind: Secret
metadata:
  name: credentials
stringData:
  clientid: {APP}
  clientsecret: {CANARY}-client
"""

Prepare = Callable[[Path], object]
"""Changes the working directory before the command runs."""

MOUNT = "mount web.yaml secrets"
MOUNT_DEV = f"{MOUNT} --dev-vault vault"
MOUNT_TOKENS = f"{MOUNT} --service-account-tokens tokens.json"


@dataclass(frozen=True)
class Mistake:
    """One mistake that a new user can make.

    Attributes:
        title: what the user did, for the page.
        command: the arguments after `keyferry`, as typed.
        files: contents of the files in the working directory, beside `vault`, the data folder of
            a running emulator, and `tokens.json`, the tokens of the service account `shop/web`.
            `{vault}` stands for the address of a running HashiCorp Vault.
        prepare: changes the working directory before the command runs.
        stdin: text on standard input.
        environ: environment variables.
        fault: fault of the emulator, as for `devvault tune --fault`.
        vault_fault: status and errors of all responses of HashiCorp Vault.
        is_warning: the command succeeds and warns.
    """

    title: str
    command: str
    files: Mapping[str, str | bytes] = field(default_factory=dict)
    prepare: Prepare | None = None
    stdin: str = ""
    environ: Mapping[str, str] = field(default_factory=dict)
    fault: str = ""
    vault_fault: tuple[int, list[str]] | None = None
    is_warning: bool = False


def edited(text: str, *edits: tuple[str, str]) -> str:
    """Return a text with edits, each of which must apply exactly once."""
    for old, new in edits:
        assert text.count(old) == 1, (old, text)
        text = text.replace(old, new)
    return text


def azure(
    title: str,
    *edits: tuple[str, str],
    command: str = MOUNT_DEV,
    fault: str = "",
    is_warning: bool = False,
    files: Mapping[str, str | bytes] | None = None,
) -> Mistake:
    """Return a mistake in a SecretProviderClass for Azure Key Vault."""
    found = {"web.yaml": edited(AZURE, *edits), **(files or {})}
    return Mistake(title, command, found, fault=fault, is_warning=is_warning)


def vault(
    title: str,
    *edits: tuple[str, str],
    command: str = MOUNT_TOKENS,
    vault_fault: tuple[int, list[str]] | None = None,
    is_warning: bool = False,
    files: Mapping[str, str | bytes] | None = None,
) -> Mistake:
    """Return a mistake in a SecretProviderClass for HashiCorp Vault."""
    found = {"web.yaml": edited(VAULT, *edits), **(files or {})}
    return Mistake(title, command, found, vault_fault=vault_fault, is_warning=is_warning)
