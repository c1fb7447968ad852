"""A set-up with workload identity that works, for tests that break it in one place."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from keyferry.cli.diagnosis.files import diagnose_file
from keyferry.cli.local.options import LocalOptions
from keyferry.doctor.checks import Report
from keyferry.providers.settings import ProviderSettings
from tests.fakes.devvault import DevVault, running_devvault

CANARY = "canary-5d1e07a4"
CLIENT = "22222222-0000-4000-8000-000000000000"
TENANT = "11111111-0000-4000-8000-000000000000"
SUBJECT = "system:serviceaccount:shop:web"
ENTRA = "login.microsoftonline.com"
VAULT = "contoso.vault.azure.net"


@dataclass
class World:
    """The vault and the files of a set-up.

    Attributes:
        vault: the development vault.
        folder: for files.
        parameters: of the SecretProviderClass, without objects.
        objects: entries of `objects`.
        secret_objects: of the SecretProviderClass.
        provider: of the SecretProviderClass.
        tokens: of the service account; None for none.
        credentials: a Secret as a manifest, or None.
        class_text: the file; "" for one that is made of the fields above.
        seconds: the time limit.
        settings: of the providers.
    """

    vault: DevVault
    folder: Path
    parameters: dict[str, str] = field(
        default_factory=lambda: {
            "keyvaultName": "contoso",
            "clientID": CLIENT,
            "tenantID": TENANT,
        }
    )
    objects: list[dict[str, Any]] = field(
        default_factory=lambda: [
            {"objectName": "db-password", "objectType": "secret"},
            {"objectName": "api-key", "objectType": "secret"},
        ]
    )
    secret_objects: list[dict[str, Any]] = field(
        default_factory=lambda: [
            {
                "secretName": "app",
                "type": "Opaque",
                "data": [{"objectName": "db-password", "key": "password"}],
            }
        ]
    )
    provider: str = "azure"
    tokens: str | None = None
    credentials: dict[str, Any] | None = None
    class_text: str = ""
    seconds: float = 30.0
    settings: ProviderSettings = field(default_factory=ProviderSettings)

    def options(self) -> LocalOptions:
        """Write the files, and return the options of the command."""
        file = self.folder / "class.yaml"
        file.write_text(self.class_text or yaml.safe_dump(self._manifest()))
        tokens = credentials = None
        if self.tokens is not None:
            tokens = self.folder / "tokens.json"
            tokens.write_text(self.tokens)
        if self.credentials is not None:
            credentials = self.folder / "credentials.yaml"
            credentials.write_text(yaml.safe_dump(self.credentials))
        return LocalOptions(
            spc_file=file,
            spc_text=None,
            spc_name=None,
            credentials=credentials,
            tokens=tokens,
            dev_vault=self.vault.data.folder,
            settings=self.settings,
            vault_qps=0.0,
            timeout=self.seconds,
        )

    async def diagnose(self) -> Report:
        """Return the report of `keyferry doctor`."""
        (report,) = await diagnose_file(self.options())
        return report

    def _manifest(self) -> dict[str, Any]:
        array = [yaml.safe_dump(each) for each in self.objects]
        return {
            "apiVersion": "secrets-store.csi.x-k8s.io/v1",
            "kind": "SecretProviderClass",
            "metadata": {"name": "app", "namespace": "shop"},
            "spec": {
                "provider": self.provider,
                "secretObjects": self.secret_objects,
                "parameters": {**self.parameters, "objects": yaml.safe_dump({"array": array})},
            },
        }


def secret(**data: str) -> dict[str, Any]:
    """Return the manifest of a Secret."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "credentials"},
        "stringData": data,
    }


def broken_token(tokens: str) -> str:
    """Return tokens whose signatures are wrong."""
    document = json.loads(tokens)
    for each in document.values():
        head, payload, signature = each["token"].split(".")
        each["token"] = f"{head}.{payload}.{signature[:-6]}AAAAAA"
    return json.dumps(document)


@asynccontextmanager
async def working_world(folder: Path) -> AsyncIterator[World]:
    """A set-up in which everything works."""
    async with running_devvault(folder) as vault:
        vault.set_secret("contoso", "db-password", CANARY)
        vault.set_secret("contoso", "api-key", CANARY)
        vault.add_app(CLIENT, tenant=TENANT, secret=None)
        vault.federate(CLIENT, subject=SUBJECT)
        vault.grant("contoso", CLIENT, "get")
        yield World(vault, folder, tokens=vault.service_account_token(SUBJECT))
