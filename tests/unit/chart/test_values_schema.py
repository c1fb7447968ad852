"""values.schema.json: misspelt names and wrong types are refused before anything is installed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from tests.unit.chart.values import (
    CHART,
    MISSPELT,
    MOVED,
    UPSTREAM,
    WRONG,
    Values,
    defaults,
    merged,
    schema,
)

SCHEMA = schema()
VALIDATOR = jsonschema.Draft7Validator(SCHEMA)
OPEN = {
    # Objects of Kubernetes that its API validates, and values of others.
    "affinity", "appArmorProfile", "claims", "configMapKeyRef", "extraObjects", "fieldRef",
    "fileKeyRef", "global", "lifecycle", "matchExpressions", "probe", "resourceFieldRef",
    "seLinuxOptions", "seccompProfile", "secretKeyRef", "securityContext", "sysctls", "volumes",
}  # fmt: skip


def errors(values: Values) -> list[tuple[str, str]]:
    """The place and the message of each error, with the default values below the given ones."""
    found = VALIDATOR.iter_errors(merged(defaults(), values))
    return [("".join(f"/{each}" for each in error.path), error.message) for error in found]


def test_the_default_values_are_valid() -> None:
    """And the schema itself is."""
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    assert [] == errors({})


@pytest.mark.parametrize("name", MISSPELT)
def test_a_misspelt_name_is_refused(name: str) -> None:
    """At each level; the message names it."""
    ((_, message),) = errors(MISSPELT[name])
    assert f"'{name}'" in message


@pytest.mark.parametrize(("place", "values"), WRONG)
def test_a_wrong_value_is_refused(place: str, values: Values) -> None:
    """The error is where the value is."""
    assert place in {found for found, _ in errors(values)}


@pytest.mark.parametrize("values", [*UPSTREAM.values(), *(values for _, values in MOVED)])
def test_values_that_the_templates_explain_are_permitted(values: Values) -> None:
    """Values of upstream, and those that need an explanation (templates/_check.tpl)."""
    assert [] == errors(values)


def test_every_object_of_the_schema_is_closed() -> None:
    """Except objects of Kubernetes, and maps whose values have a type."""
    for name, each in objects(SCHEMA, ""):
        closed = each.get("additionalProperties") is not None
        assert closed or name in OPEN, name


def objects(node: Any, name: str) -> Iterator[tuple[str, Values]]:
    """The schemas of objects, with the name of the nearest value."""
    if isinstance(node, dict):
        kinds = node.get("type", ())
        if "object" in ([kinds] if isinstance(kinds, str) else kinds):
            yield name, node
        for key, value in node.items():
            if key in {"properties", "definitions"}:
                for child, nested in value.items():
                    inner = name if name in OPEN else child
                    yield from objects(nested, inner)
            else:
                yield from objects(value, name)
    elif isinstance(node, list):
        for value in node:
            yield from objects(value, name)


def test_every_value_has_a_default_and_a_schema() -> None:
    """Except values of others that have no effect or are refused with an explanation."""
    permitted = set(paths(resolved(SCHEMA), own=True))
    assert permitted == set(defaults_of(defaults(), permitted))


def resolved(node: Values) -> Values:
    """The schema that a reference names."""
    if reference := node.get("$ref"):
        return dict(SCHEMA["definitions"][reference.rpartition("/")[2]])
    return node


def paths(node: Values, *, own: bool, above: str = "") -> Iterator[str]:
    """The paths of the values that the schema describes, without values of others."""
    for name, nested in node.get("properties", {}).items():
        each = resolved(nested)
        text = f"{nested.get('description', '')}{each.get('description', '')}"
        if own and ("no effect" in text or text.startswith("Refused")):
            continue
        path = f"{above}{name}"
        yield path
        if "$ref" not in nested or name == "image":
            yield from paths(each, own=own, above=f"{path}.")


def defaults_of(values: Values, permitted: set[str], above: str = "") -> Iterator[str]:
    """The paths of the default values, as deep as the schema names them."""
    for name, value in values.items():
        path = f"{above}{name}"
        yield path
        if isinstance(value, dict) and any(each.startswith(f"{path}.") for each in permitted):
            yield from defaults_of(value, permitted, f"{path}.")


def test_refused_names_have_an_explanation() -> None:
    """Each name that the schema permits only for an explanation is in the template."""
    template = (CHART / "templates" / "_check.tpl").read_text()
    for properties in (SCHEMA["properties"], SCHEMA["properties"]["linux"]["properties"]):
        for name, each in properties.items():
            if each.get("$ref", "").endswith("/moved"):
                assert name in template
