"""The parameter `objects`, whatever somebody writes into it."""

from __future__ import annotations

import json
from contextlib import suppress

import yaml
from hypothesis import given
from hypothesis import strategies as st

from keyferry.errors import ClassInvalidError
from keyferry.formats.volume_paths import MAX_FILES, path_problem
from keyferry.providers.azure.objects import KeyVaultObject, named_files, parse_objects
from tests.fuzz.messages import check_message

FIELDS = [
    "objectName", "objectType", "objectAlias", "objectVersion", "objectVersionHistory",
    "objectFormat", "objectEncoding", "filePermission", "expiryWarning", "objectname", "extra",
]  # fmt: skip
WORDS = st.sampled_from([
    "secret", "key", "cert", "Secret", "db", "a/b", "../x", "/etc", "a..b", ".", "..data", "",
    " db ", "latest", "PFX", "pkcs12", "base64", "HEX", "utf-8", "utf-16", "0640", "0o644", "900",
    "+7", "-7", "5", "-1", "0", "2147483648", "1e3", "true", "null", "~", "30d", "720h", "-1h",
    "9" * 400, "a" * 128, "a" * 5000, "x\ny", "\x00", "\u202e", "\ud7ff", "{}", "[]", "*a", "&a b",
    "!!python/object:os.system x", "<<", "%", "|", ">-", "# x", "'", '"', "@", "`", "\t",
])  # fmt: skip
VALUES = WORDS | st.text(max_size=12) | st.integers() | st.floats() | st.booleans() | st.none()
DEEP = st.recursive(VALUES, lambda inner: st.lists(inner, max_size=3), max_leaves=6)
ENTRIES = st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=6), VALUES | DEEP)
GOOD = {"objectName": "db", "objectType": "secret"}


def as_yaml(entry: dict[str, object], style: str | None) -> str:
    """One item of `array` as text."""
    return yaml.safe_dump(entry, default_style=style, allow_unicode=True)


TEXTS = (
    st.builds(as_yaml, ENTRIES, st.sampled_from([None, '"', "'"]))
    | st.builds(lambda entry: as_yaml(GOOD | entry, None), ENTRIES)
    | st.builds(json.dumps, ENTRIES)
    | WORDS
    | st.text(max_size=40)
)
DOCUMENTS = st.one_of(
    st.builds(lambda texts: yaml.safe_dump({"array": texts}), st.lists(TEXTS, max_size=5)),
    st.builds(lambda texts: json.dumps({"array": texts}), st.lists(TEXTS, max_size=5)),
    st.builds(lambda value: yaml.safe_dump({"array": value}), DEEP),
    st.builds(
        lambda texts: "array:\n" + "".join(f"- |\n  {text}\n" for text in texts), st.lists(TEXTS)
    ),
    st.text(st.sampled_from("-?:,[]{}#&*!|>'\"%@` \n\tab0~<")),
    st.text(),
)


@given(DOCUMENTS)
def test_any_text_is_a_list_of_objects_or_a_class_error(text: str) -> None:
    """No other exception; the message is short and on one line."""
    try:
        objects = parse_objects(text)
    except ClassInvalidError as error:
        check_message(error)
        return
    check_rules(objects)
    named = named_files({"objects": text})
    assert {path for found in objects for path in found.paths} <= {file.path for file in named}


def check_rules(objects: tuple[KeyVaultObject, ...]) -> None:
    """What everything behind the door relies on."""
    paths = [path for found in objects for path in found.paths]
    assert 0 < len(paths) <= MAX_FILES
    assert len(paths) == len(set(paths))
    for found in objects:
        assert found.history >= 1
        assert found.ref.name.replace("-", "").isalnum()
        assert found.ref.name.isascii()
        assert found.mode is None or 0 <= found.mode <= 0o777
        assert found.expiry_warning >= 0
        assert all(path_problem(path) is None and ".." not in path for path in found.paths)


@given(st.text(), st.sampled_from(["keyvaultName", "objects", "expiryWarning"]))
def test_named_files_raise_only_class_errors(text: str, key: str) -> None:
    """They are computed from the SecretProviderClass, without a mount."""
    with suppress(ClassInvalidError):
        named_files({"objects": "array: []", key: text})
