"""Mistakes in the options of objects and volumes that all built-in providers share."""

from __future__ import annotations

from tests.integration.mistakes.mistake import Mistake, azure, edited, vault

_TYPE = "          objectType: secret\n"
_ENTRY = f"        - |\n          objectName: db-password\n{_TYPE}"
_OBJECTS = "    objects: |\n      array:\n"
_KEY = "        secretKey: password\n"
_SECRET = """\
  secretObjects:
    - secretName: web-db
      type: Opaque
      data:
        - objectName: db-password
          key: password
"""
_NO_SECRET = (_SECRET, "")


def _with(*lines: str) -> tuple[str, str]:
    """Return the edit that adds lines to the object in Azure Key Vault."""
    return (_TYPE, _TYPE + "".join(f"          {line}\n" for line in lines))


def _named(name: str, *lines: str) -> tuple[str, str]:
    """Return the edit that selects another object, with further lines."""
    return (
        _ENTRY,
        _ENTRY.replace("db-password", name) + "".join(f"          {x}\n" for x in lines),
    )


def _and(name: str, *lines: str) -> tuple[str, str]:
    """Return the edit that adds another object."""
    return (_ENTRY, _ENTRY + edited(_ENTRY, ("db-password", name), _with(*lines)))


def _instead(*lines: str) -> tuple[str, str]:
    """Return the edit that replaces the object by another entry."""
    return (_ENTRY, "        - |\n" + "".join(f"          {line}\n" for line in lines))


def _parameters(*lines: str) -> tuple[str, str]:
    """Return the edit that adds parameters."""
    return (_OBJECTS, "".join(f"    {line}\n" for line in lines) + _OBJECTS)


def _vault_with(*lines: str) -> tuple[str, str]:
    """Return the edit that adds lines to the object in HashiCorp Vault."""
    return (_KEY, _KEY + "".join(f"        {line}\n" for line in lines))


def _jmes(path: str = "database.password", *lines: str) -> tuple[str, ...]:
    """Return the lines of a jmesPath entry."""
    texts = (f"- path: {path}", *(f"  {line}" for line in lines or ("objectAlias: extracted",)))
    return ("jmesPath:", *(f"  {text}" for text in texts))


OPTIONAL = (
    azure("optional is capitalized as a field", _with("Optional: true"), is_warning=True),
    azure("optional is yes for all objects", _parameters('optional: "yes"')),
    azure("optional is a boolean without quotes", _parameters("optional: true")),
    azure("default without optional: true", _with("optional: false", "default: none")),
    azure("default is a mapping", _with("default: {password: none}")),
    azure("onMissing is unknown", _with("optional: true", "onMissing: delete")),
    azure("onMissing is unknown for all objects", _parameters("onMissing: fail")),
    azure(
        "An optional object is missing, and a Secret needs it",
        _named("nowhere", "optional: true", "objectAlias: db-password"),
        is_warning=True,
    ),
    azure(
        "All optional objects are missing",
        _named("nowhere", "optional: true"),
        _NO_SECRET,
        is_warning=True,
    ),
    azure(
        "An optional object is disabled",
        _named("disabled", "optional: true"),
        _NO_SECRET,
        is_warning=True,
    ),
    azure(
        "An optional object is forbidden",
        _with("optional: true"),
        ("keyvaultName: contoso", "keyvaultName: fabrikam"),
    ),
    vault(
        "An optional secret is missing in HashiCorp Vault",
        ("secret/data/db", "secret/data/shop/none"),
        _vault_with("optional: true"),
        is_warning=True,
    ),
    vault(
        "An optional secret is forbidden in HashiCorp Vault",
        ("secret/data/db", "secret/data/other"),
        _vault_with("optional: true"),
    ),
    vault(
        "The key of an optional secret is missing",
        (_KEY, "        secretKey: passwort\n        optional: true\n"),
        is_warning=True,
    ),
)

KEYS = (
    azure("jmesPath is a text", _with("jmesPath: database.password")),
    azure("jmesPath without objectAlias", _with("jmesPath:", "  - path: database.password")),
    azure("jmesPath without path", _with("jmesPath:", "  - objectAlias: extracted")),
    azure("jmesPath is not an expression", _with(*_jmes("database..password"))),
    azure("jmesPath has a wildcard in quotes", _with(*_jmes("'\"database.*'"))),
    azure("The value of jmesPath is not JSON", _with(*_jmes())),
    azure(
        "The key of jmesPath is missing", _named("document", *_jmes("database.pasword")), _NO_SECRET
    ),
    azure(
        "jmesPath selects a list entry that is missing",
        _named("document", *_jmes("hosts[5]")),
        _NO_SECRET,
    ),
    azure("The JSON is YAML", _named("text", *_jmes("password")), _NO_SECRET),
    azure("Two files of jmesPath have one name", _with(*_jmes("a", "objectAlias: db-password"))),
    azure("The alias of jmesPath leaves the volume", _with(*_jmes("a", "objectAlias: ../a"))),
    azure(
        "A field of jmesPath is misspelt",
        _named("document", *_jmes("port", "objectalias: port")),
        _NO_SECRET,
    ),
    azure(
        "A further field of jmesPath is misspelt",
        _named("document", *_jmes("port", "objectAlias: port", "filepermission: '0400'")),
        _NO_SECRET,
        is_warning=True,
    ),
    azure("expandKeys of a text", _with("expandKeys: true")),
    azure("expandKeys of a list", _named("list", "expandKeys: true"), _NO_SECRET),
    azure("expandKeys is a list", _with("expandKeys: [password]")),
    azure(
        "expandKeys of keys that are no file names", _named("keys", "expandKeys: true"), _NO_SECRET
    ),
    azure(
        "A Secret needs a value that expandKeys replaces",
        _named("document", "objectAlias: db-password", "expandKeys: true"),
    ),
    azure("yaml without jmesPath", _with("yaml: true")),
    azure(
        "yaml of a text that is not YAML",
        _named("broken", "yaml: true", "expandKeys: true"),
        _NO_SECRET,
    ),
    vault(
        "The key of jmesPath is missing in HashiCorp Vault",
        (
            _KEY,
            "        jmesPath:\n          - path: passwort\n            objectAlias: extracted\n",
        ),
    ),
    vault(
        "jmesPath of a value that is not JSON in HashiCorp Vault",
        _vault_with("jmesPath:", "  - path: a", "    objectAlias: b"),
    ),
)

OWNERS = (
    azure("fileOwner is a name", _with("fileOwner: postgres")),
    azure("fileOwner has too many parts", _with("fileOwner: 999:999:999")),
    azure("fileOwner of all files is negative", _parameters('fileOwner: "-1"')),
    azure("fileOwner is too large", _with("fileOwner: 4294967296")),
    azure("fileOwner in hexadecimal", _with("fileOwner: 0x3e7")),
    azure("fileOwner without root", _with("fileOwner: 999"), is_warning=True),
    vault("fileOwner is a name in HashiCorp Vault", _vault_with("fileOwner: postgres:postgres")),
)

ROTATION = (
    azure("rotationPollInterval without a unit", _parameters('rotationPollInterval: "60"')),
    azure("rotationPollInterval in days", _parameters("rotationPollInterval: 1d")),
    azure("rotationPollInterval is negative", _parameters("rotationPollInterval: -6h")),
    azure("rotationPollInterval in words", _parameters("rotationPollInterval: never")),
    azure("rotationPollInterval of an object", _with("rotationPollInterval: 6h"), is_warning=True),
    azure(
        "rotationPollInterval is misspelt", _parameters("rotationPollinterval: 6h"), is_warning=True
    ),
    Mistake("Nothing is named for a refresh", "refresh"),
    Mistake("A refresh without a kubeconfig", "refresh web -n shop"),
)

ENVIRONMENT = (
    azure("envFile leaves the volume", _parameters("envFile: ../.env")),
    azure("envNames without envFile", _parameters("envNames: |", "  db-password: PASSWORD")),
    azure("envNames is a list", _parameters("envFile: .env", "envNames: |", "  - db-password")),
    azure(
        "envNames has a name with a dash",
        _parameters("envFile: .env", "envNames: |", "  db-password: DB-PASSWORD"),
    ),
    azure(
        "envNames names a file that does not exist",
        _parameters("envFile: .env", "envNames: |", "  password: PASSWORD"),
    ),
    azure(
        "Two variables have one name",
        _and("api-key"),
        _parameters(
            "envFile: .env", "envNames: |", "  api-key: PASSWORD", "  db-password: PASSWORD"
        ),
    ),
    azure(
        "A variable begins with a digit",
        _with("objectAlias: 2fa"),
        _NO_SECRET,
        _parameters("envFile: .env"),
    ),
    azure("A value has a single quote", _named("quoted"), _NO_SECRET, _parameters("envFile: .env")),
    azure("envFile is a file of an object", _parameters("envFile: db-password")),
)

VAULTS = (
    azure(
        "The vault of an object is a URL", _with("keyvaultName: https://fabrikam.vault.azure.net")
    ),
    azure("The vault of an object does not exist", _with("keyvaultName: nowhere")),
    azure("The vault of an object refuses the identity", _with("keyvaultName: fabrikam")),
    azure(
        "Two vaults of one object",
        _with("keyvaultName: fabrikam", "keyvaultURL: https://contoso.vault.azure.net"),
    ),
    azure(
        "clientID of an object with a managed identity",
        _with("clientID: 33333333-0000-4000-8000-000000000003"),
    ),
    azure(
        "keyvaultURL of an object is another site", _with("keyvaultURL: https://vault.example.com")
    ),
    vault(
        "vaultAddress of an object has no scheme", _vault_with("vaultAddress: vault.example.com")
    ),
    vault("roleName of an object is unknown", _vault_with("roleName: shpo")),
    vault(
        "A namespace of an object of another product",
        _vault_with("baoNamespace: shop"),
        is_warning=True,
    ),
)

TEMPLATES = (
    azure(
        "templates is a mapping", _parameters("templates: |", "  path: app.conf", "  template: x")
    ),
    azure("A template without a path", _parameters("templates: |", "  - template: x")),
    azure("A template without a text", _parameters("templates: |", "  - path: app.conf")),
    azure(
        "A template names a file that does not exist",
        _parameters(
            "templates: |", "  - path: app.conf", "    template: 'password={{ password }}'"
        ),
    ),
    azure(
        "A filter is unknown",
        _parameters(
            "templates: |", "  - path: app.conf", "    template: '{{ db-password | upper }}'"
        ),
    ),
    azure(
        "A template has no end",
        _parameters(
            "templates: |", "  - path: app.conf", "    template: 'password={{ db-password'"
        ),
    ),
    azure(
        "A template of Go",
        _parameters("templates: |", "  - path: app.conf", "    template: '{{ .db-password }}'"),
    ),
    azure(
        "A template with a loop",
        _parameters(
            "templates: |", "  - path: app.conf", "    template: '{{ range . }}x{{ end }}'"
        ),
    ),
    azure(
        "A template in the file of an object",
        _parameters("templates: |", "  - path: db-password", "    template: '{{ db-password }}'"),
    ),
    azure(
        "Two templates in one file",
        _parameters("templates: |", "  - {path: a, template: x}", "  - {path: a, template: y}"),
    ),
    azure(
        "A filter without its argument",
        _parameters(
            "templates: |", "  - path: app.conf", "    template: '{{ db-password | indent }}'"
        ),
    ),
    azure(
        "A value is not Base64",
        _parameters(
            "templates: |", "  - path: app.conf", "    template: '{{ db-password | b64decode }}'"
        ),
    ),
    azure(
        "A field of a template is misspelt",
        _parameters("templates: |", "  - {path: app.conf, template: x, filepermission: '0400'}"),
        is_warning=True,
    ),
)

OPTION_GROUPS: tuple[tuple[str, tuple[Mistake, ...]], ...] = (
    ("Optional objects", OPTIONAL),
    ("Keys of JSON and YAML", KEYS),
    ("Owners of files", OWNERS),
    ("Rotation of one SecretProviderClass", ROTATION),
    ("Environment variables", ENVIRONMENT),
    ("Several vaults", VAULTS),
    ("Templates", TEMPLATES),
)
