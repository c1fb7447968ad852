"""Kubernetes Secrets of optional, extracted and derived files."""

from __future__ import annotations

from tests.integration.options.option_node import JMES_PATH, TEXTS, OptionNode, secret_entry

FEATURE = secret_entry("feature", optional=True)
PASSWORD = secret_entry("password")


async def test_key_of_a_missing_object_is_left_out_until_it_is_found(node: OptionNode) -> None:
    """The Secret has the other keys meanwhile."""
    node.write("web", FEATURE, PASSWORD, secret={"a": "feature", "b": "password"})
    await node.publish("web")
    assert {"b": "s3cret"} == node.secret("web")

    node.set_secret("feature", "on")
    await node.refresh("web")

    assert {"a": "on", "b": "s3cret"} == node.secret("web")


async def test_secret_without_any_object_is_left_out(node: OptionNode) -> None:
    """And is created when one is found."""
    node.write("web", FEATURE, PASSWORD, secret={"a": "feature"})
    await node.publish("web")
    assert node.secret("web") is None

    node.set_secret("feature", "on")
    await node.refresh("web")

    assert {"a": "on"} == node.secret("web")


async def test_secret_of_a_type_with_required_keys_is_left_out_as_a_whole(
    node: OptionNode,
) -> None:
    """Kubernetes refuses such a Secret without one of its keys."""
    keys = {"username": "feature", "password": "password"}
    node.write("web", FEATURE, PASSWORD, secret=keys, kind="kubernetes.io/basic-auth")
    await node.publish("web")
    assert node.secret("web") is None

    node.set_secret("feature", "shop")
    await node.refresh("web")

    assert {"username": "shop", "password": "s3cret"} == node.secret("web")


async def test_key_of_an_object_that_disappears_is_kept(node: OptionNode) -> None:
    """Like its file, by default."""
    node.set_secret("feature", "on")
    node.write("web", FEATURE, PASSWORD, secret={"a": "feature", "b": "password"})
    await node.publish("web")
    node.vault.delete("contoso", "feature")

    await node.refresh("web")

    assert {"feature": "on", "password": "s3cret"} == node.files("web")
    assert {"a": "on", "b": "s3cret"} == node.secret("web")
    assert "ObjectMissing" in node.reasons()


async def test_key_of_an_object_that_disappears_is_removed(node: OptionNode) -> None:
    """With onMissing: remove."""
    node.set_secret("feature", "on")
    feature = secret_entry("feature", optional=True, onMissing="remove")
    node.write("web", feature, PASSWORD, secret={"a": "feature", "b": "password"})
    await node.publish("web")
    assert {"a": "on", "b": "s3cret"} == node.secret("web")
    node.vault.delete("contoso", "feature")

    await node.refresh("web")

    assert {"password": "s3cret"} == node.files("web")
    assert {"b": "s3cret"} == node.secret("web")


async def test_extracted_files_have_keys(node: OptionNode) -> None:
    """By the paths of the files."""
    document = secret_entry("document", jmesPath=JMES_PATH)
    node.write("web", document, secret={"whole": "document", "password": "extracted"})
    await node.publish("web")
    assert {"whole": TEXTS["document"], "password": "s3cret"} == node.secret("web")

    changed = TEXTS["document"].replace("s3cret", "changed")
    node.set_secret("document", changed)
    await node.refresh("web")

    assert {"whole": changed, "password": "changed"} == node.secret("web")


async def test_expanded_files_have_keys(node: OptionNode) -> None:
    """By the paths of the files; the object itself has no file."""
    node.write("web", secret_entry("document", expandKeys=True), secret={"port": "document/port"})
    await node.publish("web")
    assert {"port": "5432"} == node.secret("web")


async def test_key_that_disappears_from_a_value_is_reported(node: OptionNode) -> None:
    """The Secret and the files keep the last content."""
    document = secret_entry("document", jmesPath=JMES_PATH)
    node.write("web", document, secret={"password": "extracted"})
    await node.publish("web")
    node.set_secret("document", '{"database": {"user": "shop"}}')

    await node.refresh("web")

    assert {"document": TEXTS["document"], "extracted": "s3cret"} == node.files("web")
    assert {"password": "s3cret"} == node.secret("web")
    (event,) = node.driver.events()
    assert "MountRotationFailed" == event[1]
    assert "there is no key 'password'; the keys there are: user" in event[2]


async def test_variables_file_has_a_key(node: OptionNode) -> None:
    """Also of an optional object that is found later."""
    node.write("web", FEATURE, PASSWORD, secret={"env": ".env"}, envFile=".env")
    await node.publish("web")
    assert {"env": "PASSWORD='s3cret'\n"} == node.secret("web")

    node.set_secret("feature", "on")
    await node.refresh("web")

    assert {"env": "FEATURE='on'\nPASSWORD='s3cret'\n"} == node.secret("web")
