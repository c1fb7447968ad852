"""`keyferry mount` for OpenBao and Vault: all engines and auth methods."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml
from cryptography import x509

from tests.e2e.cluster.certificates import Authority
from tests.e2e.node import BareNode, files_below
from tests.e2e.vault.classes import Entry, class_spec, entry
from tests.e2e.vault.engines import (
    allow,
    enable_approle,
    enable_cert,
    enable_kv,
    enable_pki,
    jwt_role,
    put_kv,
)
from tests.e2e.vault.server import VaultServer
from tests.e2e.vault.tokens import TokenSigner

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]


class Laptop:
    """Mounts SecretProviderClasses with the command line tool.

    Attributes:
        node: directories of the test.
        tokens: file with the token of service account shop/web.
    """

    def __init__(self, node: BareNode, signer: TokenSigner) -> None:
        self.node = node
        self.tokens = node.folder / "tokens.json"
        self.tokens.write_text(signer.kubelet_json("shop", "web"))

    async def mount(self, spec: Mapping[str, object], *flags: str) -> dict[str, tuple[int, bytes]]:
        """Return the files of a SecretProviderClass; mode and content by path."""
        path = self.node.put_class("laptop", spec)
        target = self.node.folder / "volume"
        await self.node.children.run("mount", "keyferry", "mount", str(path), str(target), *flags)
        files = files_below(target / (target / "..data").readlink())
        await self.node.children.run("unmount", "keyferry", "unmount", str(target))
        return files

    async def read(
        self, vault: VaultServer, *objects: Entry, **parameters: str
    ) -> dict[str, bytes]:
        """Return the contents, read with role `web` unless the parameters set another one."""
        spec = class_spec(vault, *objects, **{"roleName": "web", **parameters})
        files = await self.mount(spec, f"--service-account-tokens={self.tokens}")
        return {path: content for path, (_, content) in files.items()}

    def credentials(self, data: Mapping[str, str]) -> str:
        """Return the flag for a Secret with `data`."""
        path = self.node.folder / "credentials.yaml"
        secret = {"apiVersion": "v1", "kind": "Secret", "stringData": dict(data)}
        path.write_text(yaml.safe_dump(secret | {"metadata": {"name": "credentials"}}))
        return f"--credentials={path}"


@pytest.fixture
def laptop(node: BareNode, signer: TokenSigner) -> Laptop:
    """Return an environment for `keyferry mount`."""
    return Laptop(node, signer)


@pytest.mark.parametrize("provider", ["openbao", "vault"])
async def test_both_kv_versions_are_read(laptop: Laptop, vault: VaultServer, provider: str) -> None:
    """By API path. Also an older version of KV version 2."""
    objects = (
        entry("v1", "kv1/db", "password"),
        entry("v2", "kv2/data/db", "password"),
        entry("v2-first", "/v1/kv2/data/db?version=1", "password", filePermission=0o600),
        entry("folder/user", "v1/kv1/db", "username"),
    )
    spec = class_spec(vault, *objects, provider=provider, roleName="web", audience="openbao")
    files = await laptop.mount(spec, f"--service-account-tokens={laptop.tokens}")
    assert files == {
        "v1": (0o644, b"v1-s3cret"),
        "v2": (0o644, b"second"),
        "v2-first": (0o600, b"first"),
        "folder/user": (0o644, b"shop"),
    }


async def test_values_of_all_types_become_files(laptop: Laptop, vault: VaultServer) -> None:
    """Strings as they are, others as JSON; decoded; nested keys."""
    await put_kv(
        vault,
        "kv2/data/shapes",
        number=5432,
        nested={"host": "db.example.com", "ports": [5432, 5433]},
        coded="aGVsbG8=",
        hexed="68656c6c6f",
    )
    await allow(vault, "read-shapes", "kv2/data/shapes")
    await jwt_role(vault, "shapes", "read-shapes")
    path = "kv2/data/shapes"
    found = await laptop.read(
        vault,
        entry("number", path, "number"),
        entry("nested", path, "nested"),
        entry("base64", path, "coded", encoding="base64"),
        entry("hex", path, "hexed", encoding="hex"),
        roleName="shapes",
    )
    assert found == {
        "number": b"5432",
        "nested": b'{"host":"db.example.com","ports":[5432,5433]}',
        "base64": b"hello",
        "hex": b"hello",
    }


async def test_whole_response_is_equal_in_each_read(laptop: Laptop, vault: VaultServer) -> None:
    """It is JSON with the data. Fields that differ in each response do not change it."""
    whole = entry("db.json", "kv2/data/db")
    first = await laptop.read(vault, whole)
    second = await laptop.read(vault, whole)
    assert first == second
    assert "second" == json.loads(first["db.json"])["data"]["data"]["password"]


async def test_objects_with_equal_arguments_share_one_certificate(
    laptop: Laptop, vault: VaultServer
) -> None:
    """Other arguments are another request."""
    await enable_pki(vault)
    await allow(vault, "issue", "pki/issue/web", capabilities=["update"])
    await jwt_role(vault, "issuer", "issue")
    mark = vault.audit.mark()

    def part(name: str, host: str, key: str) -> Entry:
        arguments = {"common_name": host, "ttl": "24h"}
        return entry(name, "pki/issue/web", key, method="PUT", secretArgs=arguments)

    found = await laptop.read(
        vault,
        part("a.crt", "a.example.com", "certificate"),
        part("a.key", "a.example.com", "private_key"),
        part("b.crt", "b.example.com", "certificate"),
        roleName="issuer",
    )
    certificates = {
        name: x509.load_pem_x509_certificate(found[name]) for name in ("a.crt", "b.crt")
    }
    assert ["CN=a.example.com", "CN=b.example.com"] == [
        certificates[name].subject.rfc4514_string() for name in ("a.crt", "b.crt")
    ]
    key = _public_key_of(found["a.key"])
    assert key == certificates["a.crt"].public_key()
    assert 2 == len(vault.audit.of_path("pki/issue/web", after=mark))


async def test_approle_reads(laptop: Laptop, vault: VaultServer) -> None:
    """With the role ID and secret ID of the pod's Secret."""
    secret = await enable_approle(vault, "batch", "read-db")
    spec = class_spec(
        vault,
        entry("db", "kv1/db", "password"),
        vaultAuthMethod="approle",
        vaultAuthMountPath="approle",
    )
    assert {"db": (0o644, b"v1-s3cret")} == await laptop.mount(spec, laptop.credentials(secret))


async def test_client_certificate_reads(laptop: Laptop, vault: VaultServer, tmp_path: Path) -> None:
    """With the certificate and key of the pod's Secret, in the TLS handshake."""
    clients = Authority(tmp_path / "clients")
    secret = await enable_cert(vault, clients, "machine", "read-db")
    spec = class_spec(
        vault,
        entry("db", "kv1/db", "password"),
        vaultAuthMethod="cert",
        vaultAuthMountPath="cert",
        roleName="machine",
    )
    assert {"db": (0o644, b"v1-s3cret")} == await laptop.mount(spec, laptop.credentials(secret))


async def test_vault_namespace_is_used(laptop: Laptop, vault: VaultServer) -> None:
    """A namespace has its own engines, auth methods and roles."""
    await vault.write("sys/namespaces/team", {})
    inner = "team"
    await enable_kv(vault, "kv2", version=2, namespace=inner)
    await vault.write("kv2/data/db", {"data": {"password": "of-the-team"}}, namespace=inner)
    secret = await _approle_of_namespace(vault, inner)
    spec = class_spec(
        vault,
        entry("db", "kv2/data/db", "password"),
        vaultNamespace=inner,
        vaultAuthMethod="approle",
        vaultAuthMountPath="approle",
    )
    assert {"db": (0o644, b"of-the-team")} == await laptop.mount(spec, laptop.credentials(secret))


async def _approle_of_namespace(vault: VaultServer, namespace: str) -> Mapping[str, str]:
    policy = 'path "kv2/data/db" { capabilities = ["read"] }'
    await vault.write("sys/policies/acl/read-db", {"policy": policy}, namespace=namespace)
    await vault.write("sys/auth/approle", {"type": "approle"}, namespace=namespace)
    role = "auth/approle/role/batch"
    await vault.write(role, {"token_policies": ["read-db"]}, namespace=namespace)
    role_id = await vault.read(f"{role}/role-id", namespace=namespace)
    secret = await vault.write(f"{role}/secret-id", {}, namespace=namespace)
    return {
        "role_id": role_id["data"]["role_id"],
        "secret_id": secret["data"]["secret_id"],
    }


def _public_key_of(pem: bytes) -> object:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    return load_pem_private_key(pem, None).public_key()
