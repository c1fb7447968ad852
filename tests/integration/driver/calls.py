"""Helpers of the tests that call a driver over its CSI socket."""

from __future__ import annotations

from base64 import b64decode

import grpc
import pytest

from keyferry.proto import csi_pb2 as csi
from tests.fakes.driver import Driver

DB_SECRET = {
    "secretName": "db",
    "type": "Opaque",
    "data": [{"objectName": "a", "key": "password"}],
}
"""An entry of `secretObjects`: the Secret `db` with the content of file `a`."""


def password(driver: Driver) -> str | None:
    """Return the content of the Secret `db`; None when it does not exist."""
    secret = driver.secret("db")
    return None if secret is None else b64decode(secret["data"]["password"]).decode()


async def rejection(driver: Driver, message: csi.NodePublishVolumeRequest) -> grpc.aio.AioRpcError:
    """Send a publish call that fails; check that it leaves nothing, and return its status."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await driver.send_publish(message)
    assert [] == driver.leftovers()
    return caught.value
