"""Options of an entry of `objects`."""

from __future__ import annotations

import pytest

from keyferry.content import FileOwner
from keyferry.errors import ClassInvalidError
from keyferry.formats.yaml_text import YamlMap, read_yaml
from keyferry.rendering.object_options import (
    NO_OPTIONS,
    JmesPath,
    ObjectDefaults,
    ObjectOptions,
    parse_object_options,
)


def parse(text: str, defaults: ObjectDefaults | None = None) -> ObjectOptions:
    """Parse the fields of `text`."""
    root = read_yaml(text)
    assert isinstance(root, YamlMap)
    return parse_object_options(root.entries, defaults or ObjectDefaults())


def test_an_object_without_options_has_none() -> None:
    """Fields of a provider are not looked at."""
    assert parse("{objectName: a, objectType: []}") == NO_OPTIONS


def test_all_options() -> None:
    """Booleans may be texts."""
    text = """
optional: "true"
default: ''
onMissing: remove
jmesPath:
- path: a.b
  objectAlias: x/y
- {path: c, objectAlias: z, filePermission: "0400", fileOwner: 7}
expandKeys: true
yaml: true
fileOwner: 999:0
"""
    assert parse(text) == ObjectOptions(
        optional=True,
        default="",
        keeps=False,
        jmes_paths=(JmesPath("a.b", "x/y"), JmesPath("c", "z", 0o400, FileOwner(7))),
        expand_keys=True,
        is_yaml=True,
        owner=FileOwner(999, 0),
    )


def test_an_object_overrides_the_defaults() -> None:
    """Also `optional: false`."""
    defaults = ObjectDefaults(optional=True, keeps=False, owner=FileOwner(1, 2))
    assert parse("{a: b}", defaults) == ObjectOptions(
        optional=True, keeps=False, owner=FileOwner(1, 2)
    )
    assert parse("{optional: false, onMissing: keep, fileOwner: 3}", defaults) == ObjectOptions(
        owner=FileOwner(3)
    )


def test_a_default_makes_an_object_optional() -> None:
    """It would have no effect otherwise."""
    assert parse("default: none") == ObjectOptions(optional=True, default="none")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optional: yes", "optional is neither true nor false: 'yes'. Set optional to true or"),
        ("optional: [true]", "optional is a list or a mapping. Set it to a single value."),
        ("{default: x, optional: false}", "default is set, but optional is false. Remove default"),
        ("onMissing: delete", "onMissing 'delete' is neither keep nor remove. Set onMissing: keep"),
        ("fileOwner: postgres", "fileOwner 'postgres' is not a uid or uid:gid. Write numeric ids"),
        ("fileOwner: '999:'", "fileOwner '999:' is not a uid or uid:gid"),
        ("fileOwner: -1", "fileOwner '-1' is not a uid or uid:gid"),
        ("fileOwner: 4294967295", "fileOwner '4294967295' has an id above 4294967294"),
        ("jmesPath: a.b", "jmesPath is not a list. Write one '- path: EXPRESSION'"),
        ("jmesPath: [a]", r"jmesPath\[0\] is not a mapping. Write path: EXPRESSION"),
        ("jmesPath: [{path: a}]", r"jmesPath\[0\]: objectAlias is missing. Set it to the path"),
        ("jmesPath: [{objectAlias: a}]", r"jmesPath\[0\]: path is missing. Set it to a JMESPath"),
        (
            "jmesPath: [{path: a, objectAlias: ../a}]",
            r"jmesPath\[0\]: objectAlias '../a' .*Set another objectAlias.",
        ),
        (
            "jmesPath: [{path: a, objectAlias: b, filePermission: 999}]",
            r"jmesPath\[0\]: filePermission '999' is not an octal mode. Write a mode such as 0640.",
        ),
        ("expandKeys: 2", "expandKeys is neither true nor false: '2'"),
    ],
)
def test_mistakes_are_named(text: str, message: str) -> None:
    """With the field and the remedy."""
    with pytest.raises(ClassInvalidError, match=message):
        parse(text)


def test_yaml_without_a_reader_of_the_value_is_refused() -> None:
    """It would have no effect."""
    with pytest.raises(ClassInvalidError, match="neither jmesPath nor expandKeys"):
        parse("yaml: true")
    assert parse("yaml: false") == NO_OPTIONS
    assert parse("{yaml: true, expandKeys: true}").is_yaml
