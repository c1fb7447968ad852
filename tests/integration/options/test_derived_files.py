"""Files of templates beside objects that appear and disappear."""

from __future__ import annotations

import pytest

from tests.integration.options.option_node import OptionNode, secret_entry

IN_FOLDER = "- path: document/app.conf\n  template: port={{ document/port }}\n"


async def test_template_in_the_folder_of_an_object_that_disappears(node: OptionNode) -> None:
    """The folder is kept, and the file of the template is made again, not kept with it."""
    entry = secret_entry("document", optional=True, expandKeys=True)
    node.write("web", entry, secret_entry("password"), templates=IN_FOLDER)
    await node.publish("web")
    files = node.files("web")
    assert "port=5432" == files["document/app.conf"]

    node.vault.delete("contoso", "document")
    node.set_secret("password", "new")
    await node.refresh("web")
    assert {**files, "password": "new"} == node.files("web")


async def test_content_stays_when_a_template_cannot_be_rendered(node: OptionNode) -> None:
    """The refresh fails before it writes anything."""
    template = "- path: app.conf\n  template: '{{ password | b64decode }}'\n"
    node.set_secret("password", "aGVsbG8=")
    node.write("web", secret_entry("password"), templates=template)
    await node.publish("web")
    expected = {"app.conf": "hello", "password": "aGVsbG8="}
    assert expected == node.files("web")

    node.set_secret("password", "canary!")
    await node.refresh("web")
    assert expected == node.files("web")
    failures = [text for _, reason, text in node.driver.events() if "RotationFailed" in reason]
    assert any("template 'app.conf': filter b64decode of 'password'" in text for text in failures)
    assert not any("canary" in text for text in failures)


async def test_path_of_an_optional_object_is_refused_while_it_is_missing(node: OptionNode) -> None:
    """Not only when it appears."""
    template = "- path: feature\n  template: x\n"
    node.write("web", secret_entry("feature", optional=True), templates=template)
    with pytest.raises(Exception, match="two files have the path 'feature', one of them from"):
        await node.publish("web")
