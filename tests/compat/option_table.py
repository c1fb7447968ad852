"""SecretProviderClasses with options of Keyferry, and what upstream makes of them.

docs/operations/migrate.md shows the rows; tests/unit/test_documented_options.py compares them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.compat.cases import Case, kubernetes_secret, secret
from tests.compat.vault_contents import LOAD_VAULT

JSON = json.dumps({"database": {"user": "shop", "password": "s3cret"}, "port": 5432})
YAML = "user: shop\npassword: s3cret\n"
OF_THE_CLASS = "in the vault of the SecretProviderClass"
OF_THE_ENTRY = "in the vault of the entry"
CONTENTS = {"document": JSON, "text": YAML, "password": "s3cret", "shared": OF_THE_CLASS}
"""Secrets of Key Vault."""

JMES_PATH = [{"path": "database.password", "objectAlias": "extracted"}]
FIND: dict[str, Any] = {"find": {"name": {"regexp": "^pass"}}, "maxObjects": 10}
TEMPLATES = "- path: derived\n  template: '{{ password }}'\n"
NO_SUCH_OBJECT = "SecretNotFound"
NO_NAME = "objectName:, objectVersion:: file name must not be empty"


@dataclass(frozen=True)
class OptionCase:
    """One SecretProviderClass that upstream reads differently, or refuses.

    Attributes:
        name: of the SecretProviderClass and its pod.
        entries: of `objects`, as (object, fields); "" for an entry without a name.
        parameters: of the SecretProviderClass.
        secret_of: the file that a Kubernetes Secret is to be made of; "" for no Secret.
        files: all files of the volume; empty if the mount is refused.
        says: text in the message of the Azure provider.
    """

    name: str
    entries: Sequence[tuple[str, Mapping[str, object]]]
    parameters: Mapping[str, str] = field(default_factory=dict)
    secret_of: str = ""
    files: Sequence[str] = ()
    says: str = ""

    def azure(self) -> Case:
        """Return the SecretProviderClass for Azure Key Vault, and its pod."""
        objects = [
            secret(name, **fields) if name else {"objectType": "secret", **fields}
            for name, fields in self.entries
        ]
        return Case(self.name, objects, self.parameters, secret_objects=self._secrets())

    def _secrets(self) -> Sequence[Mapping[str, object]]:
        return [kubernetes_secret(self.name, {"a": self.secret_of})] if self.secret_of else ()


@dataclass(frozen=True)
class OptionRow:
    """What the page says about options, with the SecretProviderClasses that show it.

    Attributes:
        options: the names.
        upstream: the second cell of the row.
        cases: the SecretProviderClasses.
    """

    options: tuple[str, ...]
    upstream: str
    cases: Sequence[OptionCase]

    @property
    def text(self) -> str:
        """The row."""
        return f"| {', '.join(f'`{name}`' for name in self.options)} | {self.upstream} |"


PASSWORD: Sequence[tuple[str, Mapping[str, object]]] = [("password", {})]

OPTION_ROWS = (
    OptionRow(
        ("optional", "default"),
        "ignored: a missing object fails the mount (Azure: `SecretNotFound`; OpenBao: `Code: 404`)",
        (
            OptionCase(
                "optional", [*PASSWORD, ("nowhere", {"optional": True})], says=NO_SUCH_OBJECT
            ),
            OptionCase(
                "optional-parameter",
                [*PASSWORD, ("nowhere", {})],
                {"optional": "true"},
                says=NO_SUCH_OBJECT,
            ),
            OptionCase("default", [("nowhere", {"default": "x"})], says=NO_SUCH_OBJECT),
        ),
    ),
    OptionRow(
        ("onMissing",),
        "ignored: refreshes fail while an object is missing, and the files remain",
        (
            OptionCase(
                "on-missing",
                [("password", {"onMissing": "remove"})],
                {"onMissing": "remove"},
                files=["password"],
            ),
        ),
    ),
    OptionRow(
        ("jmesPath",),
        "ignored: only the file with the whole value exists. A Kubernetes Secret of another file "
        "is not created (event `FailedToCreateSecret`)",
        (
            OptionCase("jmes-path", [("document", {"jmesPath": JMES_PATH})], files=["document"]),
            OptionCase(
                "jmes-path-secret",
                [("document", {"jmesPath": JMES_PATH})],
                secret_of="extracted",
                files=["document"],
            ),
        ),
    ),
    OptionRow(
        ("expandKeys", "yaml"),
        "ignored: instead of the folder, there is a file with the whole value",
        (
            OptionCase("expand-keys", [("document", {"expandKeys": True})], files=["document"]),
            OptionCase("yaml", [("text", {"expandKeys": True, "yaml": True})], files=["text"]),
        ),
    ),
    OptionRow(
        ("fileOwner",),
        "ignored: files belong to root",
        (
            OptionCase(
                "file-owner",
                [("password", {"fileOwner": "999:999"})],
                {"fileOwner": "998"},
                files=["password"],
            ),
        ),
    ),
    OptionRow(
        ("rotationPollInterval",),
        "ignored: all volumes are refreshed at the interval of the driver, also with `0`",
        (OptionCase("interval", PASSWORD, {"rotationPollInterval": "0"}, files=["password"]),),
    ),
    OptionRow(
        ("envFile", "envNames", "templates"),
        "ignored: the files do not exist",
        (
            OptionCase(
                "env-file",
                PASSWORD,
                {"envFile": ".env", "envNames": "password: PGPASSWORD\n"},
                files=["password"],
            ),
            OptionCase("templates", PASSWORD, {"templates": TEMPLATES}, files=["password"]),
        ),
    ),
    OptionRow(
        ("find", "rewrite", "maxObjects"),
        "refused, because the entry has no name (Azure: `file name must not be empty`; OpenBao: "
        '`couldn\'t read secret ""`)',
        (
            OptionCase("find", [("", FIND)], says=NO_NAME),
            OptionCase("find-and-name", [*PASSWORD, ("", FIND)], says=NO_NAME),
        ),
    ),
    OptionRow(
        ("keyvaultName", "keyvaultURL", "tenantID", "clientID"),
        "of an entry: ignored. **The file has the object of that name in the vault of the "
        "SecretProviderClass**; without such an object, the mount fails",
        (
            OptionCase("vault", [("shared", {"keyvaultName": LOAD_VAULT})], files=["shared"]),
            OptionCase(
                "vault-url",
                [("shared", {"keyvaultURL": f"https://{LOAD_VAULT}.vault.azure.net"})],
                files=["shared"],
            ),
            OptionCase(
                "identity",
                [("shared", {"tenantID": "nowhere", "clientID": "nobody"})],
                files=["shared"],
            ),
        ),
    ),
    OptionRow(
        ("vaultAddress", "vaultNamespace", "roleName"),
        "of an entry: ignored, likewise",
        (
            OptionCase(
                "address", [("shared", {"vaultAddress": "http://127.0.0.1:1"})], files=["shared"]
            ),
            OptionCase(
                "bao-address", [("shared", {"baoAddress": "http://127.0.0.1:1"})], files=["shared"]
            ),
            OptionCase(
                "role",
                [("shared", {"roleName": "nobody", "vaultNamespace": "nowhere"})],
                files=["shared"],
            ),
        ),
    ),
)
OPTION_CASES = tuple(case for row in OPTION_ROWS for case in row.cases)
