"""Objects that entries select by name and tags."""

from __future__ import annotations

import pytest

from keyferry.errors import ClassInvalidError, ObjectMissingError
from keyferry.formats.yaml_text import YamlMap, read_yaml
from keyferry.rendering.selection import (
    DEFAULT_MAX_OBJECTS,
    Rewrite,
    Selection,
    choose,
    parse_selection,
)


def parse(text: str, *, has_folder: bool = False) -> Selection | None:
    """Parse the fields of `text`."""
    root = read_yaml(text)
    assert isinstance(root, YamlMap)
    return parse_selection(root.entries, has_folder=has_folder, refused=("objectName",))


def test_all_fields() -> None:
    """Tags are texts; a number may be written without quotes."""
    text = """
find: {name: {regexp: ^shop-}, tags: {env: prod, tier: 1}}
rewrite: [{regexp: {source: ^shop-, target: shop/}}]
maxObjects: 7
"""
    assert parse(text) == Selection(
        "^shop-", (("env", "prod"), ("tier", "1")), "", (Rewrite("^shop-", "shop/"),), 7
    )
    assert parse("objectName: a") is None
    vault = parse("find: {path: /secret/data/a/, name: {regexp: a}}", has_folder=True)
    assert vault == Selection("a", folder="secret/data/a", max_objects=DEFAULT_MAX_OBJECTS)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("find: ^shop-", "find is not a mapping"),
        ("find: {}", "find has neither name nor tags"),
        ("find: {name: ^shop-}", "find.name is not a mapping"),
        ("find: {name: {}}", "find.name.regexp is missing"),
        ("find: {name: {regexp: 'a(b'}}", ("find.name.regexp 'a(b' is not a valid pattern: missing"
         " ) for position 2")),
        ("find: {name: {regexp: 'ab**'}}", ("find.name.regexp 'ab**' is not a valid pattern: bad"
         " repetition operator at position 3: '**'")),
        ("find: {name: {regexp: '(?=a)'}}", ("find.name.regexp '(?=a)' is not a valid pattern:"
         " invalid perl operator at position 1: '(?='")),
        (f"find: {{name: {{regexp: {'a' * 1001}}}}}", ("find.name.regexp has more than 1000"
         " characters")),
        ("find: {tags: [a]}", "find.tags is not a mapping"),
        ("find: {tags: {a: [b]}}", "find.tags: a is a list or a mapping"),
        ("find: {path: a, tags: {a: b}}", "find.path is only for Vault and OpenBao"),
        ("{objectName: a, find: {tags: {a: b}}}", "find and objectName are both set"),
        ("{jmesPath: [], find: {tags: {a: b}}}", "find and jmesPath are both set"),
        ("{find: {tags: {a: b}}, maxObjects: 0}", "maxObjects '0' is not a number from 1 to 1000"),
        ("{find: {tags: {a: b}}, maxObjects: x}", "maxObjects 'x' is not a number from 1 to 1000"),
        ("{find: {tags: {a: b}}, rewrite: a}", "rewrite is not a list"),
        ("{find: {tags: {a: b}}, rewrite: [a]}", "rewrite[0] has no mapping regexp"),
        ("{find: {tags: {a: b}}, rewrite: [{regexp: {target: a}}]}",
         "rewrite[0].regexp.source is missing"),
        ("{find: {tags: {a: b}}, rewrite: [{regexp: {source: '['}}]}",
         "rewrite[0].regexp.source '[' is not a valid pattern: missing ] at position 1: '['"),
        ("{objectName: a, rewrite: []}", "rewrite has no effect without find"),
        ("{objectName: a, maxObjects: 1}", "maxObjects has no effect without find"),
    ],
)  # fmt: skip
def test_mistakes(text: str, problem: str) -> None:
    """The message names the field and the position in a pattern."""
    with pytest.raises(ClassInvalidError) as caught:
        parse(text)
    assert caught.value.problem == problem
    assert caught.value.remedy


def test_a_folder_is_required_where_there_are_folders() -> None:
    """For Vault and OpenBao."""
    with pytest.raises(ClassInvalidError, match=r"find\.path is missing"):
        parse("find: {name: {regexp: a}}", has_folder=True)


@pytest.mark.parametrize(
    ("source", "target", "path"),
    [
        ("^shop-", "", "a-b"),
        ("-", "/", "shop/a/b"),
        ("shop-(.*)-(?P<last>.)", "$2/${1}x$last", "b/axb"),
        ("shop-(.)", "$1x$$", "$-b"),
        ("shop-(.)", "[$9]", "[]-b"),
        ("none", "x", "shop-a-b"),
    ],
)
def test_rewrite_replaces_as_go_does(source: str, target: str, path: str) -> None:
    """`$1x` names the group `1x`, and a group that does not exist is empty."""
    assert Selection(rewrites=(Rewrite(source, target),)).path_for("shop-a-b") == path


def test_rewrites_cannot_multiply_a_path() -> None:
    """A path that is too long is not rewritten any further."""
    double = Rewrite("(.*)", "$1$1")
    assert len(Selection(rewrites=(double,) * 20).path_for("abcdefgh")) < 10_000


def test_patterns_match_in_linear_time() -> None:
    """This pattern would take hours with backtracking."""
    assert not Selection("^(a+)+$").matches_name("a" * 126 + "b")


def test_selected_objects_are_sorted() -> None:
    """A list has no order to rely on."""
    assert choose(Selection("."), ("b", "a"), place="vault v") == (("a", "a"), ("b", "b"))


@pytest.mark.parametrize(
    ("selection", "problem"),
    [
        (Selection(".", max_objects=1), ("find (name '.') matches 2 objects in vault v;"
         " maxObjects is 1")),
        (Selection(".", rewrites=(Rewrite(".", "x"),)), ("find (name '.') selects 'a' and 'b',"
         " which have the same file path 'x'")),
        (Selection(".", rewrites=(Rewrite("a", ""),)), ("find (name '.') selects 'a', whose file"
         " path '' is empty")),
    ],
)  # fmt: skip
def test_what_cannot_be_delivered(selection: Selection, problem: str) -> None:
    """The message names the objects."""
    with pytest.raises(ClassInvalidError) as caught:
        choose(selection, ("a", "b"), place="vault v")
    assert caught.value.problem == problem


def test_nothing_found() -> None:
    """An optional entry may select nothing."""
    with pytest.raises(ObjectMissingError, match=r"find \(tag a=b\) matches no object in vault v"):
        choose(Selection(tags=(("a", "b"),)), (), place="vault v")
