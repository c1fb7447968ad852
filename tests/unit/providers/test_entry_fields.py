"""Unknown fields inside of the options of an object."""

from __future__ import annotations

import json

import pytest

from tests.unit.providers.test_known_fields import warnings

INSIDE_OF_OPTIONS = {
    "jmesPath": [{"path": "a", "objectAlias": "b", "mode": "0400"}, {"filepermission": "0400"}],
    "find": {"names": {}, "tags": {"any": "thing"}, "name": {"regex": "^a"}},
    "rewrite": [{"regexp": {"from": "a", "target": "b"}}, {"transform": {}}],
}


@pytest.mark.parametrize("provider", ["azure", "vault", "openbao"])
def test_fields_inside_of_options_of_an_object_are_found(provider: str) -> None:
    """Otherwise everybody could read a file whose misspelled mode has no effect."""
    entry = json.dumps(INSIDE_OF_OPTIONS)
    text = json.dumps({"array": [entry]}) if provider == "azure" else f"[{entry}]"
    place = "unknown field spec.parameters.objects[0]"
    assert [
        f"{place}.jmesPath[0].mode: did you mean filePermission?",
        f"{place}.jmesPath[1].filepermission: did you mean filePermission?",
        f"{place}.find.names",
        f"{place}.find.name.regex: did you mean regexp?",
        f"{place}.rewrite[0].regexp.from: did you mean source?",
        f"{place}.rewrite[1].transform",
    ] == warnings(provider, {"objects": text})
