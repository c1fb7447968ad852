"""The content and permissions of the vault in these tests."""

from __future__ import annotations

from tests.fakes.vault_api import VaultApi
from tests.fakes.vault_mounts import entry

DB = entry("db", "secret/data/app/db", secretKey="password")
POLICY = {"secret/data/app/*": {"read"}, "secret/app/*": {"read"}, "kv/*": {"read"}}


def prepare(vault: VaultApi) -> None:
    vault.add_role("app", accounts=["shop/web"], policy=POLICY)
    vault.write("secret", "app/db", {"password": "canary-1"})
    vault.write("kv", "old", {"password": "canary-2"})
