"""No value, credential or token of a vault is written outside of volumes."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from urllib.request import urlopen

import grpc
import pytest

from keyferry.providers.known_fields.attributes import SERVICE_ACCOUNT_TOKENS
from tests.e2e.canaries import search, search_folder
from tests.e2e.node import BareNode, Driver, Volume
from tests.e2e.vault.classes import class_spec, entry
from tests.e2e.vault.engines import (
    allow,
    enable_approle,
    enable_database,
    jwt_role,
    put_kv,
)
from tests.e2e.vault.postgres import Postgres
from tests.e2e.vault.server import VaultServer
from tests.e2e.vault.tokens import TokenSigner

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]

VALUE = "canary-value-6d1f0c9be2"
ROTATED = "canary-rotated-84a7d35c10"
ARGUMENT = "canary-argument-11c94b70de"
VAULT_TOKEN = re.compile(rb"\b(?:hvs|s)\.[A-Za-z0-9]{24}")
"""The beginning of any token of OpenBao or Vault."""


async def test_no_secret_is_written_outside_of_volumes(
    node: BareNode, vault: VaultServer, postgres: Postgres, signer: TokenSigner
) -> None:
    """Mounts, refreshes, leases and errors of all stages, with the highest log verbosity."""
    await put_kv(vault, "kv2/data/canary", password=VALUE)
    await enable_database(vault, postgres)
    await allow(vault, "canary", "kv2/data/canary", "database/creds/app")
    await jwt_role(vault, "canary", "canary")
    approle = dict(await enable_approle(vault, "canary", "canary"))
    tokens = {SERVICE_ACCOUNT_TOKENS: signer.kubelet_json("shop", "web")}
    forged = {SERVICE_ACCOUNT_TOKENS: TokenSigner().kubelet_json("shop", "web")}
    _write_classes(node, vault)
    driver = await node.start_driver(
        "-v=10", "--enable-secret-rotation", "--rotation-poll-interval=0"
    )
    good = [
        node.volume("token", context=tokens),
        node.volume("approle", pod="web-1", secrets=approle),
        node.volume("database", pod="web-2", context=tokens),
    ]
    for volume in good:
        await driver.publish(volume)
    await put_kv(vault, "kv2/data/canary", password=ROTATED)
    for volume in good:
        await driver.publish(volume)
    assert ROTATED.encode() == good[0].files()["db"][1]
    credentials = [content.decode() for _, content in good[2].files().values()]
    messages = [
        await _refused(driver, node.volume("denied", context=tokens)),
        await _refused(driver, node.volume("hex", context=tokens)),
        await _refused(driver, node.volume("token", context=forged)),
        await _refused(driver, node.volume("approle", secrets=approle | {"role_id": "none"})),
    ]
    await vault.seal()
    messages.append(await _refused(driver, node.volume("token", pod="web-3", context=tokens)))
    await vault.unseal()
    metrics = await asyncio.to_thread(_page, f"http://{driver.metrics}/metrics")
    for volume in good:
        await driver.unpublish(volume)
    await driver.stop()

    canaries = [VALUE, ROTATED, ARGUMENT, approle["secret_id"], credentials[0]]
    surroundings = [child.surroundings for child in node.children.all]
    for text in (*surroundings, metrics, *(error.encode() for error in messages)):
        assert [] == search(text, canaries), text
    classes = [node.manifests / f"{name}.yaml" for name in ("denied", "hex")]
    assert [] == search_folder(node.folder, canaries, but=[node.pods, *classes])
    logs = b"".join(path.read_bytes() for path in (node.folder / "output").iterdir())
    assert b"is sealed" in logs, "the log reports the failure"
    assert None is VAULT_TOKEN.search(logs)


def _write_classes(node: BareNode, vault: VaultServer) -> None:
    db = entry("db", "kv2/data/canary", "password")
    hidden = entry("x", "kv2/data/no", "x", method="PUT", secretArgs={"password": ARGUMENT})
    by_role: Mapping[str, list[Mapping[str, object]]] = {
        "token": [db],
        "denied": [hidden],
        "hex": [entry("db", "kv2/data/canary", "password", encoding="hex")],
        "database": [
            entry("password", "database/creds/app", "password"),
            entry("user", "database/creds/app", "username"),
        ],
    }
    for name, objects in by_role.items():
        node.put_class(name, class_spec(vault, *objects, roleName="canary"))
    spec = class_spec(vault, db, vaultAuthMethod="approle", vaultAuthMountPath="approle")
    node.put_class("approle", spec)


async def _refused(driver: Driver, volume: Volume) -> str:
    """Return the error of a publish that fails."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await driver.publish(volume)
    return f"{caught.value.code()} {caught.value.details()}"


def _page(url: str) -> bytes:
    with urlopen(url) as response:
        content: bytes = response.read()
    return content
