"""Objects that `find` selects, with the requests that it takes."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from tests.integration.options.option_node import CLIENT, OptionNode

SHOP = {
    "objectType": "secret",
    "find": {"name": {"regexp": "^shop-"}},
    "rewrite": [{"regexp": {"source": "^shop-", "target": ""}}],
}
FILES = {"a": "value a", "b": "value b"}


@pytest.fixture
async def shop(node: OptionNode) -> OptionNode:
    """A vault with two secrets that `SHOP` selects."""
    for name in FILES:
        node.vault.set_secret("contoso", f"shop-{name}", f"value {name}")
    node.write("web", SHOP)
    return node


async def test_mount_is_one_list_and_the_reads(shop: OptionNode) -> None:
    """Pods of one identity share both."""
    shop.write("worker", {**SHOP, "fileOwner": "0"})
    await asyncio.gather(shop.publish("web"), shop.publish("worker"))
    assert FILES == shop.files("web") == shop.files("worker")
    assert (1, 2) == shop.calls


async def test_refresh_without_a_change_is_one_list(shop: OptionNode) -> None:
    """The list that selects the objects also shows that they are unchanged."""
    await shop.publish("web")
    await shop.settle("web")
    assert [(1, 0)] * 2 == [await shop.refresh("web") for _ in range(2)]
    assert FILES == shop.files("web")


async def test_new_object_arrives_with_the_next_refresh(shop: OptionNode) -> None:
    """It is the only one that is read."""
    await shop.publish("web")
    await shop.settle("web")
    shop.set_secret("shop-c", "value c")
    assert (1, 1) == await shop.refresh("web")
    assert {**FILES, "c": "value c"} == shop.files("web")


async def test_object_is_removed_when_two_refreshes_do_not_select_it(shop: OptionNode) -> None:
    """One incomplete list removes nothing; an object that returns starts again."""
    await shop.publish("web")
    await shop.settle("web")
    for expected in (FILES, FILES):
        shop.vault.disable("contoso", "shop-b")
        await shop.refresh("web")
        assert expected == shop.files("web")
        shop.vault.enable("contoso", "shop-b")
        await shop.refresh("web")
        assert FILES == shop.files("web")
    shop.vault.disable("contoso", "shop-b")
    await shop.refresh("web")
    await shop.refresh("web")
    assert {"a": "value a"} == shop.files("web")


async def test_object_is_removed_at_once_if_the_entry_says_so(shop: OptionNode) -> None:
    """With `onMissing: remove`."""
    shop.write("web", {**SHOP, "onMissing": "remove"})
    await shop.publish("web")
    shop.vault.disable("contoso", "shop-b")
    await shop.refresh("web")
    assert {"a": "value a"} == shop.files("web")


async def test_optional_entry_may_select_nothing(shop: OptionNode) -> None:
    """The pod starts, and an event says that nothing matches."""
    shop.write("web", {**SHOP, "find": {"tags": {"env": "none"}}, "optional": True})
    await shop.publish("web")
    assert {} == shop.files("web")
    assert "ObjectMissing" in shop.reasons()


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"find": {"name": {"regexp": "none"}}}, "matches no object in vault contoso"),
        ({"maxObjects": 1}, "matches 2 objects in vault contoso"),
    ],
)
async def test_entry_that_selects_nothing_or_too_much(
    shop: OptionNode, fields: dict[str, object], problem: str
) -> None:
    """The mount fails."""
    shop.write("web", {**SHOP, **fields})
    with pytest.raises(grpc.aio.AioRpcError, match=problem):
        await shop.publish("web")


async def test_clash_names_both_objects(shop: OptionNode) -> None:
    """An entry with a name and a selected object."""
    shop.write("web", SHOP, {"objectName": "password", "objectType": "secret", "objectAlias": "a"})
    with pytest.raises(
        grpc.aio.AioRpcError, match="secret shop-a and secret password have the same file"
    ):
        await shop.publish("web")


async def test_list_that_is_not_permitted(shop: OptionNode) -> None:
    """The message names the permission."""
    shop.vault.grant("contoso", CLIENT, "get")
    with pytest.raises(grpc.aio.AioRpcError, match="list its secrets") as caught:
        await shop.publish("web")
    assert "--allow get,list" in (caught.value.details() or "")
