"""Parameters that all providers share."""

from __future__ import annotations

import pytest

from keyferry.content import FileOwner
from keyferry.errors import ClassInvalidError
from keyferry.rendering.class_options import (
    NO_VOLUME_OPTIONS,
    EnvFileOptions,
    TemplateOptions,
    VolumeOptions,
    parse_object_defaults,
    parse_volume_options,
)
from keyferry.rendering.object_options import NO_DEFAULTS, ObjectDefaults


def test_nothing_is_set_by_default() -> None:
    """Also by empty texts."""
    empty = dict.fromkeys(("optional", "onMissing", "fileOwner", "templates", "envFile"), " ")
    for parameters in ({}, empty, {"objects": "x"}):
        assert parse_object_defaults(parameters) is NO_DEFAULTS
        assert parse_volume_options(parameters) == NO_VOLUME_OPTIONS


def test_all_parameters() -> None:
    """Of objects and of volumes."""
    parameters = {
        "optional": "true",
        "onMissing": "remove",
        "fileOwner": "999",
        "rotationPollInterval": "6h",
        "envFile": ".env",
        "envNames": "db/password: DB_PASSWORD\n",
        "templates": "- path: a\n  template: |\n    x={{ b }}\n  filePermission: 0400\n",
    }
    assert parse_object_defaults(parameters) == ObjectDefaults(
        optional=True, keeps=False, owner=FileOwner(999)
    )
    assert parse_volume_options(parameters) == VolumeOptions(
        FileOwner(999),
        21600.0,
        EnvFileOptions(".env", (("db/password", "DB_PASSWORD"),)),
        (TemplateOptions("a", "x={{ b }}\n", 0o400),),
    )


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("optional", "yes", "optional is neither true nor false: 'yes'"),
        ("rotationPollInterval", "6", "rotationPollInterval is not a duration: '6'. Write a"),
        ("rotationPollInterval", "-1h", "rotationPollInterval is not a duration: '-1h'"),
        ("envFile", "/env", "envFile '/env' .*Choose another path."),
        ("envNames", "a: b", "envNames is set, but envFile is not. Set envFile to the path"),
        ("envNames", "[a]", r"envNames is not a mapping \(line 1 of envNames\). Write one line"),
        ("templates", "a: b", r"templates is not a list \(line 1 of templates\)"),
        ("templates", "- a: [", r"templates: not YAML: .* \(line 2 of templates\)"),
        ("templates", "- x", r"templates\[0\], line 1 of templates: it is not a mapping"),
        ("templates", "- {template: x}", "line 1 of templates: path is missing"),
        ("templates", "- {path: x}", "template is missing. Write it below template: |."),
    ],
)
def test_mistakes_are_named(name: str, value: str, message: str) -> None:
    """With the parameter and the remedy."""
    parameters = {name: value}
    with pytest.raises(ClassInvalidError, match=message):
        parse_object_defaults(parameters), parse_volume_options(parameters)
