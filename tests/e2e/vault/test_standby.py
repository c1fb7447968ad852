"""An active server and a standby node."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest

from keyferry.providers.known_fields.attributes import SERVICE_ACCOUNT_TOKENS
from tests.e2e.cluster.waiting import eventually
from tests.e2e.node import BareNode
from tests.e2e.vault.classes import class_spec, entry
from tests.e2e.vault.engines import allow, enable_jwt, enable_kv, jwt_role, put_kv
from tests.e2e.vault.server import VaultServer, running_pair
from tests.e2e.vault.tokens import TokenSigner

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]


async def test_standby_forwards_requests_to_the_active_server(
    node: BareNode, signer: TokenSigner, tmp_path: Path
) -> None:
    """Without the active server, the error names its address."""
    async with running_pair(tmp_path / "pair") as (active, standby):
        await _prepare(active, signer)
        spec = class_spec(standby, entry("db", "kv/data/db", "password"), roleName="web")
        node.put_class("standby", spec)
        driver = await node.start_driver(
            "--enable-secret-rotation",
            "--rotation-poll-interval=0",
            "--allowed-vault-addresses=127.0.0.1",
        )
        tokens = {SERVICE_ACCOUNT_TOKENS: signer.kubelet_json("shop", "web")}
        volume = node.volume("standby", context=tokens)

        async def published() -> bool | None:
            try:
                await driver.publish(volume)
            except grpc.aio.AioRpcError:
                return None
            return True

        await eventually(published, "the standby node to replicate role and policy")
        assert {"db": (0o644, b"s3cret")} == volume.files()

        await active.stop()
        await driver.publish(volume)
        assert {"db": (0o644, b"s3cret")} == volume.files(), "a failed refresh changes nothing"
        other = node.volume("standby", pod="web-1", context=tokens)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await driver.publish(other)
        message = str(caught.value.details())
        assert "standby" in message
        assert active.address.removeprefix("https://") in message, "the target of its redirect"
        assert [] == node.left_overs(other)

        await active.start()
        await active.unseal()

        async def written() -> bool:
            await put_kv(active, "kv/data/db", password="rotated")
            return True

        await eventually(written, "the servers to elect an active node")

        async def refreshed() -> bool | None:
            await driver.publish(volume)
            return True if {"db": (0o644, b"rotated")} == volume.files() else None

        await eventually(refreshed, "a refresh after the circuit breaker closes")
        await driver.stop()


async def _prepare(vault: VaultServer, signer: TokenSigner) -> None:
    await enable_kv(vault, "kv", version=2)
    await put_kv(vault, "kv/data/db", password="s3cret")
    await allow(vault, "read-db", "kv/data/db")
    await enable_jwt(vault, signer)
    await jwt_role(vault, "web", "read-db")
