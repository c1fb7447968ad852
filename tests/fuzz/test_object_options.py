"""Options of an entry of `objects`, whatever somebody writes into it."""

from __future__ import annotations

import json

import yaml
from hypothesis import given
from hypothesis import strategies as st

from keyferry.content import MAX_ID
from keyferry.errors import ClassInvalidError
from keyferry.formats.volume_paths import path_problem
from keyferry.kubernetes import SecretProviderClass
from keyferry.providers.azure.objects import parse_objects
from keyferry.providers.known_fields.names import COMMON_OBJECT_FIELDS, COMMON_PARAMETERS
from keyferry.providers.registry import unknown_fields
from keyferry.rendering.class_options import parse_object_defaults, parse_volume_options
from keyferry.rendering.object_options import MAX_JMES_PATHS
from tests.fuzz.messages import check_message

WORDS = st.sampled_from([
    "true", "false", "yes", "True", "", "~", "keep", "remove", "999", "999:999", "0", "-1",
    "4294967295", "0x1", "6h", "1d", "0640", "900", "a.b", "a..b", "a/b", "../x", "..data", ".env",
    "^a", "(", "(?=a)", "[a-", "a" * 2000, "x\ny", "\x00", "\u202e", "{{ a }}", "{{", "{}", "[]",
])  # fmt: skip
SCALARS = WORDS | st.text(max_size=8) | st.integers() | st.booleans() | st.none()
INNER = st.sampled_from([
    "path", "objectAlias", "filePermission", "fileOwner", "name", "regexp", "tags", "source",
    "target", "template", "x",
])  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(INNER, inner, max_size=4),
    max_leaves=8,
)
JMES = st.lists(
    st.fixed_dictionaries(
        {"path": st.sampled_from(["a", "a.b", "keys(@)"]), "objectAlias": WORDS},
        optional={"filePermission": SCALARS, "fileOwner": SCALARS, "x": VALUES},
    ),
    max_size=3,
)
ENTRIES = st.fixed_dictionaries(
    {"objectName": st.just("db"), "objectType": st.just("secret")},
    optional={
        **dict.fromkeys(COMMON_OBJECT_FIELDS, VALUES),
        "jmesPath": JMES | VALUES,
        "objectVersionHistory": st.sampled_from(["0", "2"]),
    },
)
PARAMETERS = st.dictionaries(
    st.sampled_from(COMMON_PARAMETERS),
    WORDS | st.text(max_size=8) | VALUES.map(yaml.safe_dump),
    max_size=5,
)


@given(ENTRIES, PARAMETERS)
def test_any_options_are_accepted_or_refused(
    entry: dict[str, object], parameters: dict[str, str]
) -> None:
    """No other exception; the message is short, on one line, and has no character of control."""
    text = json.dumps({"array": [json.dumps(entry)]})
    spc = SecretProviderClass("shop", "web", "azure", {**parameters, "objects": text})
    for field in unknown_fields(spc):
        assert "\n" not in str(field)
    try:
        defaults = parse_object_defaults(parameters)
        parse_volume_options(parameters)
        objects = parse_objects(text, defaults=defaults)
    except ClassInvalidError as error:
        check_message(error)
        return
    for found in objects:
        options = found.options
        assert len(options.jmes_paths) <= MAX_JMES_PATHS
        assert all(path_problem(each.path) is None for each in options.jmes_paths)
        owners = [options.owner, *(each.owner for each in options.jmes_paths)]
        assert all(0 <= owner.uid <= MAX_ID for owner in owners if owner is not None)
        assert options.optional or options.default is None
        assert not options.is_yaml or options.extracts
