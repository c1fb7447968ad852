"""Volumes with options while a vault fails: they keep their content, and nothing is missing."""

from __future__ import annotations

from collections.abc import Mapping

import grpc
import pytest

from tests.fakes.devvault import RespondStatus
from tests.integration.options.option_node import JMES_PATH, TEXTS, OptionNode, secret_entry

SECRETS = "contoso.vault.azure.net/secrets"
DOCUMENT = TEXTS["document"]
OPTIONS: dict[str, tuple[Mapping[str, object], dict[str, str]]] = {
    "optional": ({"optional": True}, {"document": DOCUMENT}),
    "remove": ({"optional": True, "onMissing": "remove"}, {"document": DOCUMENT}),
    "default": ({"default": "none"}, {"document": DOCUMENT}),
    "jmes-path": ({"jmesPath": JMES_PATH}, {"document": DOCUMENT, "extracted": "s3cret"}),
    "expand-keys": (
        {"expandKeys": True},
        {"document/database": '{"user":"shop","password":"s3cret"}', "document/port": "5432"},
    ),
    "owner": ({"fileOwner": "999"}, {"document": DOCUMENT}),
    "history": ({"objectVersionHistory": 2}, {"document/0": DOCUMENT}),
}


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
@pytest.mark.parametrize("name", OPTIONS)
async def test_volume_keeps_its_content(node: OptionNode, name: str, status: int) -> None:
    """A refusal is not a missing object. The Secret stays, and an event names the failure."""
    fields, files = OPTIONS[name]
    path = next(iter(files))
    node.write("web", secret_entry("document", **fields), secret={"a": path})
    await node.publish("web")
    synced = {"a": files[path]}
    node.vault.add_fault(SECRETS, RespondStatus(status), times=None)

    await node.refresh("web")

    assert files == node.files("web")
    assert synced == node.secret("web")
    assert ["MountRotationFailed"] == node.reasons()
    node.vault.clear_faults()
    node.driver.clock.now += 3600
    await node.refresh("web")
    assert files == node.files("web")


@pytest.mark.parametrize("status", [401, 403, 429, 503])
async def test_first_mount_fails(node: OptionNode, status: int) -> None:
    """No pod starts without an optional object only because the vault cannot be asked."""
    node.write("web", secret_entry("document", optional=True, default="none"))
    node.vault.add_fault(SECRETS, RespondStatus(status), times=None)

    with pytest.raises(grpc.aio.AioRpcError):
        await node.publish("web")

    assert "ObjectMissing" not in node.reasons()
