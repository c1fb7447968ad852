"""How many requests a vault gets for SecretProviderClasses with options."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from tests.integration.options.option_node import (
    JMES_PATH,
    TEXTS,
    OptionNode,
    secret_entry,
)

DOCUMENT = TEXTS["document"]
EXPANDED = {
    "document/database": '{"user":"shop","password":"s3cret"}',
    "document/port": "5432",
}
FIELDS: dict[str, Mapping[str, object]] = {
    "plain": {},
    "optional": {"optional": True},
    "default": {"default": "{}"},
    "jmes-path": {"jmesPath": JMES_PATH},
    "expand-keys": {"expandKeys": True},
    "owner": {"fileOwner": "999"},
    "history": {"objectVersionHistory": 2, "jmesPath": JMES_PATH},
}
FILES = {
    **{name: {"document": DOCUMENT} for name in FIELDS},
    "jmes-path": {"document": DOCUMENT, "extracted": "s3cret"},
    "expand-keys": EXPANDED,
    "history": {"document/0": DOCUMENT, "extracted/0": "s3cret"},
}
OTHERS = [secret_entry("password"), secret_entry("greeting")]
FURTHER = {"password": "s3cret", "greeting": "hello"}


async def test_pods_with_different_options_of_an_object_share_one_request(
    node: OptionNode,
) -> None:
    """The options are applied to the value that was read."""
    names = [name for name in FIELDS if name != "history"]
    for name in names:
        node.write(name, secret_entry("document", **FIELDS[name]))

    await asyncio.gather(*map(node.publish, names))

    assert {name: FILES[name] for name in names} == {name: node.files(name) for name in names}
    assert (0, 1) == node.calls


@pytest.mark.parametrize("name", [name for name in FIELDS if name != "history"])
async def test_refresh_without_a_change_is_one_list(node: OptionNode, name: str) -> None:
    """No object is read, and no file is written."""
    node.write("web", secret_entry("document", **FIELDS[name]), *OTHERS)
    target = await node.publish("web")
    await node.settle("web")
    before = (target / "..data").lstat().st_ino

    assert [(1, 0)] * 2 == [await node.refresh("web") for _ in range(2)]

    assert before == (target / "..data").lstat().st_ino
    assert {**FILES[name], **FURTHER} == node.files("web")


@pytest.mark.parametrize("name", [name for name in FIELDS if name != "history"])
async def test_changed_value_is_read_once_and_reaches_all_files(
    node: OptionNode, name: str
) -> None:
    """Those that are made of parts of it, too."""
    node.write("web", secret_entry("document", **FIELDS[name]), *OTHERS)
    await node.publish("web")
    await node.settle("web")
    text = DOCUMENT.replace("s3cret", "changed")
    node.set_secret("document", text)

    assert (1, 1) == await node.refresh("web")

    expected = {path: value.replace("s3cret", "changed") for path, value in FILES[name].items()}
    assert {**expected, **FURTHER} == node.files("web")


async def test_missing_object_is_requested_with_each_refresh(node: OptionNode) -> None:
    """Only it, because the list lacks it. It arrives with the refresh after its creation."""
    node.write("web", secret_entry("feature", optional=True), secret_entry("document"), *OTHERS)
    await node.publish("web")
    await node.settle("web")
    calls = [await node.refresh("web") for _ in range(2)]
    assert "feature" not in node.files("web")
    assert "missing" == (await node.driver.objects_in_status("web", "web") or {})["secret/feature"]

    node.set_secret("feature", "on")
    await node.refresh("web")

    assert "on" == node.files("web")["feature"]
    assert ["ObjectMissing", "ObjectFound"] == [r for r in node.reasons() if r.startswith("Object")]
    assert [(1, 1)] * 2 == calls


async def test_option_of_a_running_pod_needs_no_read(node: OptionNode) -> None:
    """A SecretProviderClass is edited; the next refresh applies it to the cached value."""
    node.write("web", secret_entry("document"), *OTHERS)
    await node.publish("web")
    await node.settle("web")
    for name in ("jmes-path", "expand-keys", "plain"):
        node.write("web", secret_entry("document", **FIELDS[name]), *OTHERS)

        assert (1, 0) == await node.refresh("web")

        assert {**FILES[name], **FURTHER} == node.files("web")


async def test_history_with_extracted_files(node: OptionNode) -> None:
    """Each version has the files of its options."""
    node.write("web", secret_entry("document", **FIELDS["history"]))
    await node.publish("web")
    assert FILES["history"] == node.files("web")
    node.driver.clock.now += 60  # the times of versions have whole seconds
    node.set_secret("document", DOCUMENT.replace("s3cret", "second"))

    await node.refresh("web")

    second = DOCUMENT.replace("s3cret", "second")
    assert {
        "document/0": second,
        "document/1": DOCUMENT,
        "extracted/0": "second",
        "extracted/1": "s3cret",
    } == node.files("web")


async def test_template_follows_optional_and_extracted_files(node: OptionNode) -> None:
    """It is left out while an object is missing, and costs no request."""
    text = "- path: app.conf\n  template: |-\n    {{ extracted }} {{ feature | json }}\n"
    node.write(
        "web",
        secret_entry("document", jmesPath=JMES_PATH),
        secret_entry("feature", optional=True),
        secret={"conf": "app.conf"},
        templates=text,
    )
    await node.publish("web")
    assert {"document": DOCUMENT, "extracted": "s3cret"} == node.files("web")
    assert node.secret("web") is None

    node.set_secret("feature", "on")
    await node.refresh("web")
    assert 's3cret "on"' == node.files("web")["app.conf"]
    assert {"conf": 's3cret "on"'} == node.secret("web")

    node.vault.delete("contoso", "feature")
    await node.refresh("web")
    assert 's3cret "on"' == node.files("web")["app.conf"]
    assert {"conf": 's3cret "on"'} == node.secret("web")
