"""Templates: what is rendered, and what a mistake says."""

from __future__ import annotations

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from keyferry.content import FileOwner, SecretFile
from keyferry.errors import (
    ClassInvalidError,
    KeyferryError,
    MountLimitError,
    ObjectUnusableError,
)
from keyferry.rendering.class_options import (
    EnvFileOptions,
    TemplateOptions,
    VolumeOptions,
    parse_volume_options,
)
from keyferry.rendering.derived_files import derive_files, derived_files_request
from keyferry.rendering.templates import parse_template, render_template

CANARY = "canary-3b90"
KEY = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
LEAF = "-----BEGIN CERTIFICATE-----\nAAAB\n-----END CERTIFICATE-----\n"
CHAIN = "-----BEGIN CERTIFICATE-----\nAAAC\n-----END CERTIFICATE-----\n"
CONTENTS = {
    "user": b"shop",
    "db/password": b"p'a\"ss w\xc3\xb6rd&/",
    "a b": b"blank",
    "lines": b"  one\ntwo\n",
    "tls": f"text\n{KEY}{LEAF}{CHAIN}".encode(),
    "binary": b"\xff\x00",
    "b64": b"aGVsbG8=\n",
    "zero": b"a\0b",
    "end-point": b"host",
    "if": b"host",
    ".env": b"A=1",
}


def render(text: str) -> bytes:
    """Render a template over the contents."""
    return render_template(parse_template(text), CONTENTS)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", b""),
        ("no expression { } {x}", b"no expression { } {x}"),
        ("user={{ user }}\n", b"user=shop\n"),
        ("{{user}}{{user}}", b"shopshop"),
        ('{{ "a b" }}', b"blank"),
        ("{{\n  user\n  | json\n}}", b'"shop"'),
        ("{{ db/password | url }}", b"p%27a%22ss%20w%C3%B6rd%26%2F"),
        ("{{ db/password | sql }}", b"'p''a\"ss w\xc3\xb6rd&/'"),
        ("{{ db/password | json }}", b'"p\'a\\"ss w\xc3\xb6rd&/"'),
        ("{{ user | b64 }}", b"c2hvcA=="),
        ("{{ binary | b64 }}", b"/wA="),
        ("{{ b64 | b64decode }}", b"hello"),
        ("{{ lines | trim }}", b"one\ntwo"),
        ("k: |\n  {{ lines | trim | indent(2) }}", b"k: |\n  one\n  two"),
        ("{{ tls | pemkey }}", KEY.encode()),
        ("{{ tls | pemcerts }}", f"{LEAF}{CHAIN}".encode()),
        ("{{ binary }}", b"\xff\x00"),
        (r"\{{ user }} is {{ user }}", b"{{ user }} is shop"),
        ("}} {{ user }} }}", b"}} shop }}"),
        ("ä{{ user }}", "äshop".encode()),
        (r"CORP\\{{ user }}", rb"CORP\shop"),
        (r"\\\{{ user }} \\a \n \\", rb"\{{ user }} \\a \n \\"),
        ("{{ end-point }}{{ if }}", b"hosthost"),
        ('{{ ".env" }}', b"A=1"),
    ],
)
def test_rendering(text: str, expected: bytes) -> None:
    """Text is copied byte by byte; only expressions are replaced."""
    assert expected == render(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\n b {{ user", "expression at line 2, column 4 of template has no }}. Write"),
        ("{{ }}", "the expression at line 1, column 1 of template is not possible"),
        ("{{ user name }}", 'is not possible.*needs quotes: {{ "a b" }}'),
        ("{{ user }", "has no }}"),
        ("{{ user | }}", "there is no filter behind '|'"),
        ("{{ user || b64 }}", "there is no filter behind '|'"),
        ("{{ user | base64 }}", "there is no filter 'base64'.*The filters are: b64, b64decode,"),
        ("{{ user | b46 }}", "there is no filter 'b46'.*Did you mean b64?"),
        ("{{ user | b64(1) }}", "the filter b64 has no argument"),
        ("{{ user | indent }}", "the filter indent needs the number of blanks.*Write indent"),
        ("{{ user | indent(x) }}", r"indent\(x\) is not a number from 0 to 100"),
        ("{{ user | indent(101) }}", r"indent\(101\) is not a number from 0 to 100"),
        ("{{ user | indent(0000999999999) }}", r"indent\(0000999999999\) is not a number"),
        ("{{ user | indent(" + "0" * 5000 + ") }}", "is not a number from 0 to 100"),
        ("{{ user | indent(\u0663) }}", "is not a number from 0 to 100"),
        ("{{ .Values.x }}", "In a Helm chart, write"),
        ("{{ .env }}", "The path of a file '.env' needs quotes"),
        ("{{- user -}}", "without conditions, loops and values of Helm"),
        ("{{ else }}{{ with x }}", "without conditions, loops and values of Helm"),
        ("{{- if x }}", "without conditions, loops and values of Helm"),
        ("{{ range x }}", "not possible. Only {{ FILE"),
        ("{{ include 'x' }}", "not possible. Only {{ FILE"),
        ("{{ user" + " | trim" * 11 + " }}", "more than 10 filters follow each other"),
        ("{{ user }}" * 1001, "the template has more than 1000 expressions"),
        ("x" * 65_537, "the template has 65537 characters; at most 65536 are allowed"),
    ],
)
def test_a_template_is_checked_before_any_request(text: str, message: str) -> None:
    """Also as a part of the SecretProviderClass, with the place there."""
    with pytest.raises(ClassInvalidError, match=message):
        parse_template(text)
    listed = yaml.safe_dump([{"path": "x", "template": text}])
    with pytest.raises(ClassInvalidError, match=r"templates\[0\], line 1 of templates: "):
        parse_volume_options({"templates": listed})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{ binary | json }}", "filter json of 'binary' .*not UTF-8 text. Put the filter b64"),
        ("{{ binary | sql }}", "is not UTF-8 text"),
        ("{{ zero | sql }}", "has a zero byte"),
        ("{{ lines | b64decode }}", "filter b64decode of 'lines' .*is not base64"),
        ("{{ user | pemkey }}", "the content has no private key in PEM"),
        ("{{ binary }}\n", "'binary' is not UTF-8 text, and .* Add the filter b64, or use"),
        ("{{ user }}{{ binary | trim }}", r"'binary' is not .* \(line 1, column 11 of template\)"),
        ("{{ user | pemcerts }}", "the content has no certificate in PEM"),
    ],
)
def test_content_that_does_not_fit_a_filter_is_refused(text: str, message: str) -> None:
    """Without a quote of it."""
    with pytest.raises(ObjectUnusableError, match=message) as caught:
        render(text)
    for content in CONTENTS.values():
        assert len(content) < 6 or content.decode("latin1") not in str(caught.value)


def test_a_result_is_limited() -> None:
    """Each expression is small, all of them together are not."""
    large = {"a": b"x" * 100_000}
    with pytest.raises(ObjectUnusableError, match="more than 1048576 bytes"):
        render_template(parse_template("{{ a }}" * 11), large)
    with pytest.raises(ObjectUnusableError, match="more than 1048576 bytes"):
        render_template(parse_template("{{ a | indent(100) }}"), {"a": b"\n" * 100_000})


def test_all_files_together_are_limited() -> None:
    """100 files of 1 MiB would fill the memory of the node."""
    large = SecretFile("a", 0o644, b"x" * 1_000_000)
    many = tuple(TemplateOptions(f"x{index}", "{{ a }}") for index in range(5))
    request = derived_files_request((large,), VolumeOptions(templates=many))
    assert request is not None
    with pytest.raises(MountLimitError, match="files of templates would have more than 4194304"):
        derive_files(request)


@given(st.text(max_size=200))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    """And without expressions it is copied."""
    try:
        template = parse_template(text)
    except ClassInvalidError:
        return
    if "{{" not in text:
        assert text.encode(errors="replace") == render_template(template, {})


@given(st.text(max_size=60))
def test_quoted_values_can_be_read_again(value: str) -> None:
    """By readers of JSON and YAML."""
    content = {"a": value.encode(errors="replace")}
    text = content["a"].decode()
    assert text == json.loads(render_template(parse_template("{{ a | json }}"), content))
    quoted = render_template(parse_template("{{ a | yaml }}"), content).decode()
    assert text == yaml.safe_load(quoted)
    assert text.encode() == render_template(parse_template("{{ a | b64 | b64decode }}"), content)


# --- in a volume ----------------------------------------------------------------------------------

FILES = (SecretFile("a", 0o440, b"1", FileOwner(7)), SecretFile("b", 0o604, b"2", FileOwner(7)))


def derive(
    *templates: TemplateOptions, absent: tuple[str, ...] = (), owner: FileOwner | None = None
) -> tuple[SecretFile, ...]:
    """Make the files of templates from `FILES`."""
    request = derived_files_request(FILES, VolumeOptions(owner, templates=templates), absent)
    assert request is not None
    return derive_files(request)


def test_a_derived_file_is_as_private_as_its_sources() -> None:
    """Unless the template says otherwise."""
    own = TemplateOptions("y", "{{ a }}", 0o644, FileOwner(8))
    assert (
        SecretFile("x", 0o400, b"1-2", FileOwner(7)),
        SecretFile("y", 0o644, b"1", FileOwner(8)),
        SecretFile("z", 0o644, b"text", None),
    ) == derive(TemplateOptions("x", "{{ a }}-{{ b }}"), own, TemplateOptions("z", "text"))


def test_a_file_without_sources_has_the_owner_of_the_volume() -> None:
    """Because `fileOwner` of a SecretProviderClass is for all files."""
    own = TemplateOptions("y", "text", owner=FileOwner(8))
    made = derive(TemplateOptions("x", "text"), own, owner=FileOwner(9))
    assert [FileOwner(9), FileOwner(8)] == [file.owner for file in made]


def test_a_path_of_a_missing_object_is_taken() -> None:
    """Otherwise the refresh would fail that finds the object."""
    for path in ("c", "d"):
        with pytest.raises(ClassInvalidError, match="Choose another path in templates"):
            derive(TemplateOptions(path, "text"), absent=("c", "d/x"))
    (made,) = derive(TemplateOptions("c/x", "text"), absent=("c", "d/x"))
    assert "c/x" == made.path


def test_a_file_that_needs_a_missing_object_is_left_out() -> None:
    """The others are made."""
    (made,) = derive(
        TemplateOptions("x", "{{ c }}"),
        TemplateOptions("w", "{{ d/1 }}"),
        TemplateOptions("y", "{{ a }}"),
        absent=("c", "d"),
    )
    assert "y" == made.path


@pytest.mark.parametrize(
    ("templates", "message"),
    [
        ([("x", "{{ aa }}")], r"template 'x': there is no file 'aa' .* files are: a, b.*mean 'a'"),
        ([("x", "{{ y }}"), ("y", "{{ a }}")], "template 'x': 'y' is itself made by a template"),
        ([("a", "{{ b }}")], "two files have the path 'a', one of them from templates"),
        ([("x", "1"), ("x", "2")], "two files have the path 'x'"),
        ([("a/x", "1")], "'a' would be a file and the folder of 'a/x'"),
        ([("x", "{{ a | pemkey }}")], "template 'x': filter pemkey of 'a'"),
    ],
)
def test_mistakes_name_the_template(templates: list[tuple[str, str]], message: str) -> None:
    """And what to do."""
    with pytest.raises(KeyferryError, match=message):
        derive(*(TemplateOptions(path, text) for path, text in templates))


def test_variables_and_templates_together() -> None:
    """The file of variables has no derived files."""
    options = VolumeOptions(
        env_file=EnvFileOptions(".env"), templates=(TemplateOptions("x", "{{ a }}"),)
    )
    request = derived_files_request(FILES, options)
    assert request is not None
    assert {"x": b"1", ".env": b"A='1'\nB='2'\n"} == {
        file.path: file.contents for file in derive_files(request)
    }
