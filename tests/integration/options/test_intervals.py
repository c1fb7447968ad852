"""Volumes of one object that are refreshed at different intervals."""

from __future__ import annotations

from tests.integration.options.option_node import OptionNode, secret_entry

LONG_HOURS = 2400
"""The slots of a volume are anywhere in its interval. None is likely to be in the first minutes."""


async def test_volume_without_refreshes_keeps_its_content(node: OptionNode) -> None:
    """Its neighbour with the same object is refreshed, with one request."""
    node.write("kept", secret_entry("password"), rotationPollInterval="0")
    node.write("web", secret_entry("password"))
    for name in ("kept", "web"):
        await node.publish(name)
    node.set_secret("password", "changed")

    lists, reads = await node.refresh("kept", "web")

    assert {"password": "s3cret"} == node.files("kept")
    assert {"password": "changed"} == node.files("web")
    assert 1 == reads
    assert lists <= 1


async def test_volume_with_a_long_interval_asks_for_nothing_in_between(node: OptionNode) -> None:
    """And gets the change when its interval is over."""
    node.write("slow", secret_entry("password"), rotationPollInterval=f"{LONG_HOURS}h")
    await node.publish("slow")
    node.set_secret("password", "changed")

    assert [(0, 0)] * 3 == [await node.refresh("slow") for _ in range(3)]
    assert {"password": "s3cret"} == node.files("slow")

    node.driver.clock.now += 2 * LONG_HOURS * 3600
    await node.refresh("slow")
    assert {"password": "changed"} == node.files("slow")
