"""Broken set-ups with a real OpenBao server, and with servers that are no vault."""

from __future__ import annotations

from tests.e2e.cluster.broken.setup import (
    MOUNTS,
    PASSWORD,
    REFRESHES,
    SECRETS,
    UNAVAILABLE,
    VALUE,
    WORKLOAD,
    BrokenSetup,
    Category,
    Phase,
    azure,
    vault,
)
from tests.e2e.cluster.broken.world import World
from tests.e2e.cluster.cluster_auth import kubernetes_role
from tests.e2e.cluster.manifests import secret_object
from tests.e2e.vault.engines import put_kv

SECRETS_NAMESPACE = "no-rbac"
"""The driver may not write Secrets here."""
PATH = "secret/data/db"
_LARGE = range(5)
"""The numbers of secrets that are too large together: the server accepts at most 1 MiB for one."""


async def prepare(world: World, row: BrokenSetup) -> None:
    """Let the service account of a row read a secret with a role of the name of the row."""
    account = "default" if row.target.startswith("pod/") else "web"
    await kubernetes_role(world.bao, row.name, PATH, namespace=row.name, account=account)
    if row.prepare is not None:
        done = row.prepare(world, row)
        if done is not None:
            await done


async def put_secret(world: World) -> None:
    """Write the secret that most rows read."""
    await put_kv(world.bao, PATH, password=VALUE)
    for number in _LARGE:
        await put_kv(world.bao, f"secret/data/large-{number}", password=900_000 * "x")


async def _no_policy(world: World, row: BrokenSetup) -> None:
    await kubernetes_role(world.bao, row.name, "secret/data/other", namespace=row.name)


async def _other_account(world: World, row: BrokenSetup) -> None:
    await kubernetes_role(world.bao, row.name, PATH, namespace=row.name, account="web")


async def _other_audience(world: World, row: BrokenSetup) -> None:
    await kubernetes_role(world.bao, row.name, PATH, namespace=row.name, audience="openbao")


async def role_of_openbao(world: World, row: BrokenSetup) -> None:
    account = "default" if row.target.startswith("pod/") else "web"
    await kubernetes_role(
        world.bao, row.name, PATH, namespace=row.name, account=account, audience="openbao"
    )


async def _large(world: World, row: BrokenSetup) -> None:
    await kubernetes_role(world.bao, row.name, "secret/data/large-*", namespace=row.name)


async def _revoke_later(world: World, row: BrokenSetup) -> None:
    await _no_policy(world, row)


_AT_NODE = ("--from", "node")
_FROM_PROXY = "proxied.example.com"

NETWORK = (
    vault(
        "no-such-host", "The host name of the vault does not resolve", Category.NETWORK, "dns",
        parameters={"vaultAddress": "https://no-proxy.example.com:8200"},
        doctor_options=_AT_NODE, varies=True, alerts=(MOUNTS, UNAVAILABLE),
    ),
    vault(
        "closed-port", "The vault refuses connections", Category.NETWORK, "tcp",
        parameters={"vaultAddress": "$CLOSED"}, varies=True, alerts=(MOUNTS, UNAVAILABLE),
    ),
    vault(
        "silent-vault", "The vault accepts the connection and does not respond",
        Category.NETWORK, "tls",
        parameters={"vaultAddress": "$SILENT"}, hangs=True, varies=True,
        alerts=(MOUNTS, UNAVAILABLE),
    ),
    vault(
        "proxy-refuses", "The proxy refuses the host", Category.NETWORK, "proxy",
        varies=True, alerts=(MOUNTS, UNAVAILABLE),
        parameters={"vaultAddress": f"https://{_FROM_PROXY}:8200"},
    ),
    vault(
        "no-proxy", "The proxy is unreachable", Category.NETWORK, "proxy",
        parameters={"vaultAddress": f"http://http.{_FROM_PROXY}:8200", "vaultCACertPath": None},
        varies=True, alerts=(MOUNTS, UNAVAILABLE),
    ),
    vault(
        "local-address", "The address of the vault is local", Category.NETWORK, "parameters",
        parameters={"vaultAddress": "https://127.0.0.1:8200"}, doctor_options=_AT_NODE,
    ),
    vault(
        "other-address", "The address of the vault is not permitted", Category.NETWORK,
        "parameters", parameters={"vaultAddress": "https://vault.example.org:8200"},
        doctor_options=_AT_NODE,
    ),
)  # fmt: skip

TLS = (
    vault("unknown-ca", "The CA of the vault is unknown", Category.TLS, "tls",
          parameters={"vaultCACertPath": None}),
    vault("expired-cert", "The certificate of the vault has expired", Category.TLS, "tls",
          parameters={"vaultAddress": "$EXPIRED"}),
    vault("wrong-name", "The certificate is for another name", Category.TLS, "tls",
          parameters={"vaultAddress": "$MISNAMED"}),
    vault("plain-http", "The port serves plain HTTP", Category.TLS, "tls",
          parameters={"vaultAddress": "$PLAIN"}),
    vault("http-to-tls", "The address is http, and the port serves TLS", Category.TLS, "tls",
          parameters={"vaultAddress": "$HTTPBAO", "vaultCACertPath": None}),
    vault("client-cert", "The vault requires a client certificate", Category.TLS, "tls",
          parameters={"vaultAddress": "$MUTUAL"}),
    vault("no-ca-file", "The file of the CA does not exist", Category.TLS, "parameters",
          parameters={"vaultCACertPath": "$CA.old"}),
)  # fmt: skip

IDENTITY = (
    vault("no-vault-role", "The role does not exist", Category.IDENTITY, "vault-auth",
          parameters={"roleName": "no-such-role"}),
    vault("not-bound", "The role is not bound to the service account", Category.IDENTITY,
          "vault-auth", prepare=_other_account),
    vault("role-audience", "The role expects another audience", Category.IDENTITY, "vault-auth",
          prepare=_other_audience),
    vault("auth-mount", "The auth method is mounted elsewhere", Category.IDENTITY, "vault-auth",
          parameters={"vaultAuthMountPath": "kubernetes-prod"}),
    vault("vault-namespace", "The Vault namespace does not exist", Category.IDENTITY,
          "vault-auth", parameters={"vaultNamespace": "team"}),
    vault("no-audience", "tokenRequests of the CSIDriver lacks the audience", Category.IDENTITY,
          "token", parameters={"audience": "openbao"}, prepare=role_of_openbao),
    azure("no-token-request", "tokenRequests of the CSIDriver lacks the audience of Entra",
          Category.IDENTITY, "token", phase=Phase.VAULT,
          parameters={**WORKLOAD, "clientID": "22222222-0000-4000-8000-000000000007"}),
)  # fmt: skip

PERMISSIONS = (
    vault("vault-policy", "The Vault policy does not permit the path", Category.PERMISSIONS,
          "permission", prepare=_no_policy),
    vault(
        SECRETS_NAMESPACE, "The driver may not write Secrets in the namespace",
        Category.PERMISSIONS, "secret",
        secret_objects=[secret_object("db", {"password": "password"})],
        reasons=("FailedToCreateSecret",), alerts=(SECRETS,),
    ),
)  # fmt: skip

NAMES = (
    vault("no-path", "The path of the secret does not exist", Category.NAMES, "permission",
          objects=[{**PASSWORD, "secretPath": "secret/data/bd"}]),
    vault("no-key", "The secret has no such key", Category.NAMES, "object",
          objects=[{**PASSWORD, "secretKey": "pasword"}]),
    vault("no-data", "`data/` is missing in the path of KV version 2", Category.NAMES,
          "object", objects=[{**PASSWORD, "secretPath": "secret/db"}]),
    vault("vault-sealed", "The vault is sealed", Category.NETWORK, "vault",
          parameters={"vaultAddress": "$SEALED"}, varies=True, alerts=(MOUNTS, UNAVAILABLE)),
)  # fmt: skip

LIMITS = (
    vault("too-large", "The files of the volume are too large", Category.LIMITS, "rendering",
          prepare=_large,
          objects=[
              {**PASSWORD, "objectName": f"{number}", "secretPath": f"secret/data/large-{number}"}
              for number in _LARGE
          ]),
)  # fmt: skip

ROTATION = (
    vault("policy-later", "The policy was removed after the mount", Category.ROTATION,
          "permission", later=_revoke_later, reasons=("MountRotationFailed",),
          alerts=(REFRESHES,)),
)  # fmt: skip

VAULT_ROWS = (*IDENTITY, *NETWORK, *TLS, *PERMISSIONS, *NAMES, *LIMITS, *ROTATION)
