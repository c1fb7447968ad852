"""Administration of a vault: engines, auth methods, roles and policies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.e2e.cluster.certificates import Authority
from tests.e2e.cluster.waiting import eventually
from tests.e2e.vault.postgres import MANAGER, MANAGER_PASSWORD, Postgres
from tests.e2e.vault.server import VaultServer
from tests.e2e.vault.tokens import ISSUER, TokenSigner

MAKE_USER = (
    "CREATE ROLE \"{{name}}\" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}';"
)

RENEW_LEASES = "default"
"""The policy that lets every token renew what it holds; servers attach it by themselves."""


async def enable_kv(vault: VaultServer, mount: str, *, version: int, namespace: str = "") -> None:
    """Enable a KV engine and wait until it is ready: version 2 rejects requests at first."""
    body = {"type": "kv", "options": {"version": str(version)}}
    await vault.write(f"sys/mounts/{mount}", body, namespace=namespace)
    if version == 2:
        await eventually(
            lambda: vault.read(f"{mount}/config", namespace=namespace),
            f"the engine {mount} to be ready",
        )


async def put_kv(vault: VaultServer, path: str, **values: object) -> None:
    """Write a secret: `kv1/db` of version 1, or `kv/data/db` of version 2."""
    v2 = "/data/" in path
    await vault.write(path, {"data": values} if v2 else values)


async def enable_pki(vault: VaultServer) -> None:
    """Enable a CA at `pki` whose role `web` issues certificates below example.com."""
    await vault.write("sys/mounts/pki", {"type": "pki", "config": {"max_lease_ttl": "87600h"}})
    await vault.write("pki/root/generate/internal", {"common_name": "example.com", "ttl": "8760h"})
    role = {"allowed_domains": "example.com", "allow_subdomains": True, "max_ttl": "72h"}
    await vault.write("pki/roles/web", role)


async def enable_database(
    vault: VaultServer, postgres: Postgres, *, ttl: str = "1h", max_ttl: str = "24h"
) -> None:
    """Enable a database engine at `database` whose role `app` creates users of `postgres`."""
    await vault.write("sys/mounts/database", {"type": "database"})
    config = {
        "plugin_name": "postgresql-database-plugin",
        "allowed_roles": "*",
        "connection_url": postgres.connection_url,
        "username": MANAGER,
        "password": MANAGER_PASSWORD,
    }
    await vault.write("database/config/postgres", config)
    await database_role(vault, "app", ttl=ttl, max_ttl=max_ttl)


async def database_role(vault: VaultServer, name: str, *, ttl: str, max_ttl: str) -> None:
    """Create a role whose leases last `ttl`, and at most `max_ttl` with renewals."""
    role = {
        "db_name": "postgres",
        "creation_statements": [MAKE_USER],
        "default_ttl": ttl,
        "max_ttl": max_ttl,
    }
    await vault.write(f"database/roles/{name}", role)


async def allow(
    vault: VaultServer, policy: str, *paths: str, capabilities: Sequence[str] = ("read",)
) -> None:
    """Write a policy that grants the same capabilities on each of `paths`."""
    wanted = ", ".join(f'"{each}"' for each in capabilities)
    text = "\n".join(f'path "{path}" {{ capabilities = [{wanted}] }}' for path in paths)
    await vault.write(f"sys/policies/acl/{policy}", {"policy": text})


async def enable_jwt(vault: VaultServer, signer: TokenSigner, *, mount: str = "jwt") -> None:
    """Enable an auth method that trusts the tokens of `signer`."""
    await vault.write(f"sys/auth/{mount}", {"type": "jwt"})
    config = {"jwt_validation_pubkeys": [signer.public_key], "bound_issuer": ISSUER}
    await vault.write(f"auth/{mount}/config", config)


async def jwt_role(
    vault: VaultServer,
    name: str,
    *policies: str,
    subject: str = "system:serviceaccount:shop:web",
    mount: str = "jwt",
    audience: str = "openbao",
    **fields: object,
) -> None:
    """Create a role of a JWT auth method that is bound to one service account."""
    role = {
        "role_type": "jwt",
        "user_claim": "sub",
        "bound_audiences": [audience],
        "bound_subject": subject,
        "token_policies": list(policies),
        "token_ttl": "1h",
        **fields,
    }
    await vault.write(f"auth/{mount}/role/{name}", role)


async def enable_approle(vault: VaultServer, name: str, *policies: str) -> Mapping[str, str]:
    """Enable AppRole and return the data of the pod's Secret."""
    if "approle/" not in (await vault.read("sys/auth"))["data"]:
        await vault.write("sys/auth/approle", {"type": "approle"})
    await vault.write(f"auth/approle/role/{name}", {"token_policies": list(policies)})
    role = await vault.read(f"auth/approle/role/{name}/role-id")
    secret = await vault.write(f"auth/approle/role/{name}/secret-id", {})
    return {"role_id": role["data"]["role_id"], "secret_id": secret["data"]["secret_id"]}


async def enable_cert(
    vault: VaultServer, clients: Authority, name: str, *policies: str
) -> Mapping[str, str]:
    """Enable a role for certificates of the CA `clients`; return the data of the pod's Secret."""
    await vault.write("sys/auth/cert", {"type": "cert"})
    role = {
        "certificate": clients.certificate.read_text(),
        "allowed_common_names": [name],
        "token_policies": list(policies),
    }
    await vault.write(f"auth/cert/certs/{name}", role)
    certificate, key = clients.issue(name, user=name)
    return {"tls.crt": certificate.read_text(), "tls.key": key.read_text()}
