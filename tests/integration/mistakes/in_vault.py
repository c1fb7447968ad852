"""Mistakes in SecretProviderClasses for HashiCorp Vault, and refusals of the vault."""

from __future__ import annotations

from tests.integration.mistakes.mistake import MOUNT, MOUNT_TOKENS, Mistake, vault

_ROLE = "    roleName: shop\n"
_ADDRESS = "    vaultAddress: {vault}\n"
_KEY = "        secretKey: password\n"
_PATH = "        secretPath: secret/data/db\n"
_NAME = "      - objectName: password\n"

PARAMETERS = (
    vault("vaultAddress is missing", (_ADDRESS, "")),
    vault("vaultAddress is misspelt", ("vaultAddress", "vaultAdress")),
    vault("vaultAddress has no scheme", ("{vault}", "vault.example.com:8200")),
    vault("vaultAddress has an unknown scheme", ("{vault}", "vault://vault.example.com:8200")),
    vault("vaultAddress has the wrong port", ("{vault}", "http://127.0.0.1:9")),
    vault("vaultAddress is https, the vault is not", ("{vault}", "{vault-with-https}")),
    vault("vaultAddress does not resolve", ("{vault}", "http://vault.invalid:8200")),
    vault("roleName is missing", (_ROLE, "")),
    vault("roleName is called vaultRole", ("roleName", "vaultRole")),
    vault("roleName is unknown", ("roleName: shop", "roleName: shpo")),
    vault("The auth method is not mounted", (_ROLE, _ROLE + "    vaultKubernetesMountPath: k8s\n")),
    vault("The namespace is unknown", (_ROLE, _ROLE + "    vaultNamespace: teams/shop\n")),
    vault(
        "vaultSkipTLSVerify is not a boolean", (_ROLE, _ROLE + '    vaultSkipTLSVerify: "yes"\n')
    ),
    vault(
        "vaultCACertPath does not exist",
        (_ROLE, _ROLE + "    vaultCACertPath: /etc/keyferry/none.crt\n"),
        ("{vault}", "https://127.0.0.1:9"),
    ),
    vault(
        "A parameter of the Azure provider",
        (_ROLE, _ROLE + "    keyvaultName: contoso\n"),
        is_warning=True,
    ),
    vault("No service account token", command=MOUNT),
    vault(
        "A token for another audience",
        command=f"{MOUNT} --service-account-tokens azure-tokens.json",
    ),
    vault("objects is misspelt", ("    objects: |", "    object: |")),
    vault(
        "objects is not a list",
        (
            "      - objectName: password\n        secretPath",
            "        objectName: password\n        secretPath",
        ),
    ),
    vault("objects is empty", (_NAME + _PATH + _KEY, "      []\n")),
)

OBJECTS = (
    vault("objectName is missing", (_NAME + _PATH, "      - secretPath: secret/data/db\n")),
    vault("secretPath is missing", (_PATH, "")),
    vault("secretPath is misspelt", ("secretPath", "secretpath")),
    vault("secretPath without data/", ("secret/data/db", "secret/db")),
    vault("secretPath with a wrong mount", ("secret/data/db", "kv-shop/data/db")),
    vault("The secret does not exist", ("secret/data/db", "secret/data/shop/none")),
    vault("The policy denies the path", ("secret/data/db", "secret/data/admin")),
    vault("secretKey is misspelt", ("secretKey", "secretkey"), is_warning=True),
    vault("secretKey matches no key", ("secretKey: password", "secretKey: pasword")),
    vault(
        "objectVersion of the Azure provider",
        (_KEY, _KEY + '        objectVersion: "1"\n'),
        is_warning=True,
    ),
    vault(
        "objectAlias of the Azure provider",
        (_KEY, _KEY + "        objectAlias: db.txt\n"),
        is_warning=True,
    ),
    vault("method is unknown", (_KEY, _KEY + "        method: PATCH\n")),
    vault("filePermission is not octal", (_KEY, _KEY + "        filePermission: 0o888\n")),
    vault("encoding is unknown", (_KEY, _KEY + "        encoding: rot13\n")),
    vault("objectName leaves the volume", (_NAME, "      - objectName: ../password\n")),
    vault("Two objects in one file", (_KEY, _KEY + _NAME + _PATH + _KEY)),
    vault(
        "Objects are texts, as for Azure",
        (
            _NAME + _PATH + _KEY,
            "      - |\n        objectName: password\n        secretPath: secret/data/db\n",
        ),
    ),
)

REFUSALS = (
    vault("The vault is sealed", vault_fault=(503, ["Vault is sealed"])),
    vault(
        "The vault limits the rate",
        command=f"{MOUNT_TOKENS} --timeout 2s",
        vault_fault=(429, ["request path: rate limit quota exceeded"]),
    ),
    vault("The vault fails", vault_fault=(500, ["internal error"])),
    vault("The server is no vault", vault_fault=(404, [])),
)

VAULT_GROUPS: tuple[tuple[str, tuple[Mistake, ...]], ...] = (
    ("Parameters of the Vault provider", PARAMETERS),
    ("Objects in HashiCorp Vault", OBJECTS),
    ("Responses of HashiCorp Vault", REFUSALS),
)
