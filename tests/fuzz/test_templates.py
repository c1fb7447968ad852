"""Templates, whatever their text and the files are."""

from __future__ import annotations

import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from keyferry.content import FileOwner, SecretFile
from keyferry.errors import ClassInvalidError, KeyferryError
from keyferry.formats.volume_paths import path_problem
from keyferry.rendering.class_options import (
    TemplateOptions,
    VolumeOptions,
    parse_volume_options,
)
from keyferry.rendering.derived_files import derive_files, derived_files_request
from keyferry.rendering.template_filters import FILTERS
from keyferry.rendering.templates import MAX_RESULT_BYTES, parse_template, render_template
from tests.fuzz.messages import check_message

NAMES = ["a", "b/c", ".env", "a b"]
CONTENT = st.binary(max_size=20) | st.text(
    st.sampled_from("ab'\"\\\n\0{}%`é\u2028"), max_size=20
).map(str.encode)
FILES = st.fixed_dictionaries(dict.fromkeys(NAMES, CONTENT))
PIECES = st.sampled_from(
    ["{{", "}}", "|", "\\", '"', " ", "\n", "(", ")", "-", ".", "x", "4", *NAMES, *FILTERS]
)
CALLS = st.sampled_from([name + ("(3)" if one.argument else "") for name, one in FILTERS.items()])
EXPRESSIONS = st.builds(
    lambda name, calls: "{{" + "|".join([f'"{name}"', *calls]) + "}}",
    st.sampled_from(NAMES),
    st.lists(CALLS, max_size=4),
)
TEXTS = (
    st.text(max_size=40)
    | st.lists(PIECES, max_size=14).map("".join)
    | st.lists(EXPRESSIONS | st.text(max_size=5), max_size=4).map("".join)
)
PATHS = st.text(st.sampled_from("abc/. "), min_size=1, max_size=5).filter(
    lambda path: path_problem(path) is None
)
MODES = st.sampled_from([0o400, 0o440, 0o644, 0o604])
OWNERS = st.none() | st.builds(FileOwner, st.integers(0, 2), st.none() | st.integers(0, 2))
TEMPLATES = st.lists(
    st.builds(TemplateOptions, PATHS, TEXTS, st.none() | MODES, OWNERS), max_size=3
)


@given(TEXTS, FILES)
@example("{{ a | indent(0000999999999) }}", {"a": b""})
@example("{{ a | indent(" + "0" * 5000 + ") }}", {"a": b""})
@example("\\" * 60_000, {})
@example(r"\\\{{ a }}", {"a": b""})
def test_any_template_is_rendered_or_refused(text: str, files: dict[str, bytes]) -> None:
    """No other exception; the message is short, on one line, and the result is limited."""
    try:
        template = parse_template(text)
        if template.names <= set(files):
            assert len(render_template(template, files)) <= MAX_RESULT_BYTES
    except KeyferryError as error:
        check_message(error)


@given(TEXTS)
def test_a_text_with_escapes_is_copied(text: str) -> None:
    r"""`\\` before `{{` makes any text literal."""
    escaped = "".join(
        piece if piece != "{{" else r"\{{"
        for part in text.replace("\\", "").split("{{")
        for piece in (part, "{{")
    ).removesuffix(r"\{{")
    plain = text.replace("\\", "")
    assert plain.encode(errors="replace") == render_template(parse_template(escaped), {})


@given(TEMPLATES, FILES, st.sets(PATHS, max_size=2), OWNERS)
def test_files_of_templates_are_as_private_as_their_sources(
    templates: list[TemplateOptions],
    content: dict[str, bytes],
    absent: set[str],
    owner: FileOwner | None,
) -> None:
    """Paths are unique, and no default lets more users read."""
    files = [SecretFile(path, 0o440, data, FileOwner(7, 7)) for path, data in content.items()]
    options = VolumeOptions(owner, templates=tuple(templates))
    try:
        request = derived_files_request(files, options, absent)
        made = derive_files(request) if request else ()
    except KeyferryError as error:
        check_message(error)
        return
    assert len(files) + len(made) == len({file.path for file in (*files, *made)})
    by_path = {each.path: each for each in templates}
    for file in made:
        each = by_path[file.path]
        if each.mode is None and parse_template(each.template).names:
            assert not file.mode & ~0o440


@given(
    st.text(max_size=40)
    | st.lists(
        st.dictionaries(
            st.sampled_from(["path", "template", "filePermission", "fileOwner", "x"]),
            st.none() | st.integers() | st.text(max_size=8) | TEXTS | st.lists(st.none()),
        )
        | st.none()
        | st.text(max_size=3),
        max_size=3,
    ).map(yaml.safe_dump)
)
def test_any_parameter_is_options_or_a_class_error(text: str) -> None:
    """Also one that is not YAML."""
    try:
        parse_volume_options({"templates": text})
    except ClassInvalidError as error:
        check_message(error)
