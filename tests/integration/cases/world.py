"""Runs the cases: the engine of `keyferry mount` with a development vault and a Vault API."""

from __future__ import annotations

import base64
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from keyferry.cli.local.engine import local_engine, local_publisher
from keyferry.cli.local.files import visible_files
from keyferry.cli.local.options import LocalOptions
from keyferry.driver.request import PublishRequest, UnpublishRequest
from keyferry.errors import KeyferryError
from keyferry.kubernetes import PodRef
from keyferry.providers.known_fields.attributes import (
    POD_NAME,
    POD_UID,
    SERVICE_ACCOUNT,
    SERVICE_ACCOUNT_TOKENS,
)
from keyferry.providers.restrictions import UNRESTRICTED
from keyferry.providers.settings import ProviderSettings
from keyferry.records import replace
from tests.fakes.devvault import CertificateSpec, DevVault, running_devvault
from tests.fakes.vault_api import VaultApi, running_vault
from tests.fakes.vault_auth import service_account_token
from tests.fakes.vault_mounts import tokens_json

HERE = Path(__file__).parent
TENANT = "11111111-0000-4000-8000-000000000000"
CLIENT = "22222222-0000-4000-8000-000000000000"
ROLE_ID, SECRET_ID = "role-1", "secret-1"
_ADDRESS = re.compile(r"(https?)://127\.0\.0\.1:18200")

MANIFEST = f"""\
apiVersion: secrets-store.csi.x-k8s.io/v1
kind: SecretProviderClass
metadata: {{name: c}}
spec:
  provider: azure
  parameters:
    useVMManagedIdentity: "true"
    keyvaultName: contoso
    tenantId: {TENANT}
    objects: |
      array:
"""
"""The beginning of a SecretProviderClass for Azure, without its entries."""
VAULT_MANIFEST = """\
apiVersion: secrets-store.csi.x-k8s.io/v1
kind: SecretProviderClass
metadata: {name: c}
spec:
  provider: vault
  parameters:
    vaultAddress: http://127.0.0.1:18200
    vaultAuthMethod: approle
    objects: |
"""
"""The same for Vault."""


def manifest(*names: str, secrets: str = "", **fields: str) -> str:
    """Return a SecretProviderClass that mounts secrets of the vault.

    Args:
        names: the secrets.
        secrets: the value of `secretObjects`, as YAML on one line.
        fields: further fields of each entry.
    """
    lines = [f"{key}: {value}" for key, value in {"objectType": "secret", **fields}.items()]
    entries = [["- |", f"  objectName: {name}", *(f"  {line}" for line in lines)] for name in names]
    text = "".join(f"      {line}\n" for entry in entries for line in entry)
    return MANIFEST + text + (f"  secretObjects: {secrets}\n" if secrets else "")


def tls_secret(name: str, key_object: str = "", *, extra: str = "") -> str:
    """Return one entry of `secretObjects`, of type kubernetes.io/tls, as YAML on one line."""
    return (
        "{secretName: tls, type: kubernetes.io/tls, data: ["
        f"{{objectName: {name}, key: tls.crt}}, {{objectName: {key_object or name}, key: tls.key}}"
        f"{extra}]}}"
    )


@dataclass(frozen=True)
class Outcome:
    """The result of a mount.

    Attributes:
        error: the error of the mount; "" if it succeeded.
        files: the contents by path.
        modes: the permission bits by path.
        secrets: the data of the Secrets, decoded, by name.
        manifests: the Secrets by name.
        problems: the messages about Secrets that could not be written.
    """

    error: str = ""
    files: Mapping[str, bytes] = field(default_factory=dict)
    modes: Mapping[str, int] = field(default_factory=dict)
    secrets: Mapping[str, Mapping[str, bytes]] = field(default_factory=dict)
    manifests: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


class World:
    """Both vaults, and a folder for files and Secrets.

    Attributes:
        azure: the development vault.
        vault: the Vault API.
        folder: the folder of the test.
        secrets: the data of the Secret that nodePublishSecretRef would name.
        audience: the audience of the service account token.
    """

    def __init__(self, azure: DevVault, vault: VaultApi, folder: Path) -> None:
        self.azure = azure
        self.vault = vault
        self.folder = folder
        self.secrets: dict[str, str] = {"role_id": ROLE_ID, "secret_id": SECRET_ID}
        self.audience = "vault"

    @property
    def target(self) -> Path:
        """The mount point."""
        return self.folder / "target"

    @property
    def secrets_dir(self) -> Path:
        """The folder of Secrets, pod statuses and events."""
        return self.folder / "manifests"

    def write(self, text: str | bytes) -> Path:
        """Write a SecretProviderClass, with the address of the Vault API, and return its file."""
        path = self.folder / "class.yaml"
        content = text if isinstance(text, bytes) else text.encode()
        path.write_bytes(self._addressed(content.decode()).encode())
        return path

    async def mount_case(self, case: str, file: str = "class.yaml") -> Outcome:
        """Mount the SecretProviderClass of a case."""
        return await self.mount((HERE / case / file).read_bytes())

    async def mount(self, text: str | bytes) -> Outcome:
        """Mount the SecretProviderClass in `text` as `keyferry mount` does."""
        path = self.write(text)
        try:
            async with local_engine(self._options(path), secrets_dir=self.secrets_dir) as engine:
                request = await engine.request(str(self.target))
                result = await engine.publish(self._of_pod(request))
        except KeyferryError as error:
            return Outcome(str(error))
        return self._outcome(
            str(result.masked_error or ""), tuple(p.message for p in result.secret_problems)
        )

    async def unmount(self) -> None:
        """Unmount the volume."""
        async with local_publisher(self.secrets_dir) as publisher:
            await publisher.unpublish(UnpublishRequest(str(self.target)))

    def _options(self, path: Path) -> LocalOptions:
        is_azure = "provider: azure" in path.read_text().replace('"', "")
        return LocalOptions(
            spc_file=path,
            spc_text=None,
            spc_name=None,
            credentials=None,
            tokens=None,
            dev_vault=self.folder / "devvault" if is_azure else None,
            settings=ProviderSettings(restrictions=UNRESTRICTED),
            vault_qps=0,
        )

    def _addressed(self, text: str) -> str:
        netloc = self.vault.parameters["vaultAddress"].removeprefix("http://")
        return _ADDRESS.sub(rf"\1://{netloc}", text)

    def _of_pod(self, request: PublishRequest) -> PublishRequest:
        """Return the request for a pod with a service account and a `nodePublishSecretRef`."""
        namespace = request.pod.namespace
        token = service_account_token(f"{namespace}/web", self.audience)
        context = {
            POD_NAME: "web-0",
            POD_UID: "uid-of-web-0",
            SERVICE_ACCOUNT: "web",
            SERVICE_ACCOUNT_TOKENS: tokens_json(**{self.audience: token}),
        }
        return replace(
            request,
            pod=PodRef(namespace, "web-0", "uid-of-web-0"),
            context={**request.context, **context},
            secrets=self.secrets,
        )

    def _outcome(self, error: str, problems: tuple[str, ...]) -> Outcome:
        files = visible_files(self.target)
        manifests = {
            path.stem: yaml.safe_load(path.read_text())
            for path in (self.secrets_dir / "secrets").rglob("*.yaml")
        }
        secrets = {
            name: {key: base64.b64decode(value) for key, value in each.get("data", {}).items()}
            for name, each in manifests.items()
        }
        return Outcome(
            error,
            {file.path: file.contents for file in files},
            {file.path: file.mode for file in files},
            secrets,
            manifests,
            problems,
        )


@asynccontextmanager
async def running_world(folder: Path, *, system_assigned: bool = True) -> AsyncIterator[World]:
    """Run both vaults with the objects that the cases name.

    Args:
        folder: an empty folder.
        system_assigned: whether the machine has the identity by itself.
    """
    async with running_devvault(folder) as azure, running_vault() as vault:
        azure.add_managed_identity(CLIENT, tenant=TENANT, system_assigned=system_assigned)
        for name in ("secret1", "secret2", "mixedcase", "db-user", "db-password"):
            azure.set_secret("contoso", name, f"value of {name}")
        azure.grant("contoso", CLIENT, "get", "list")
        policy = {"*": {"read", "update", "list"}}
        vault.add_role("shop", mount="approle", policy=policy, secret=(ROLE_ID, SECRET_ID))
        vault.add_role("shop", mount="jwt", accounts=["default/web"], policy=policy)
        vault.write("secret", "db", {"password": "s3cret", "username": "app"})
        odd = {"nested": {"a": [1, {"b": None}], "c": "<d>"}, "big": 12345678901234567890}
        odd |= {"flag": True, "float": 1, "empty": "", "nothing": None}
        vault.write("secret", "odd", odd)
        yield World(azure, vault, folder)


def bundle(case: str, name: str = "bundle") -> bytes:
    """Return the PKCS#12 of a case."""
    return base64.b64decode((HERE / case / f"{name}.pfx.b64").read_text())


def add_certificate(world: World) -> None:
    """Add the certificate `web`, which a few cases read."""
    world.azure.create_certificate("contoso", "web", CertificateSpec())
