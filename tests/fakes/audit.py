"""Collects the records of the audit log, and checks them against the documented schema.

audit_log = RecordingAuditLog()
...
assert [record["outcome"] for record in audit_log.records] == ["delivered"]
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keyferry.telemetry.audit_records import AuditedMount, record_groups
from keyferry.telemetry.logs import json_lines

SCHEMA = json.loads(
    (Path(__file__).parents[2] / "docs/reference/audit-log.schema.json").read_text()
)
_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "object": dict,
    "string": str,
    "number": (int, float),
}


def schema_problems(value: Any, schema: Mapping[str, Any], path: str = "record") -> list[str]:
    """Return how `value` violates a JSON Schema, of which this knows the keywords used here."""
    if not isinstance(value, _TYPES[schema["type"]]):
        return [f"{path} is not of type {schema['type']}"]
    problems = []
    if value not in schema.get("enum", [value]):
        problems.append(f"{path} is {value!r}")
    if isinstance(value, str):
        if not re.search(schema.get("pattern", ""), value):
            problems.append(f"{path} is {value!r}")
        if len(value) > schema.get("maxLength", len(value)):
            problems.append(f"{path} has {len(value)} characters")
    if isinstance(value, dict):
        problems += [f"{path}.{key} is missing" for key in schema["required"] if key not in value]
        for key, inner in value.items():
            known = schema["properties"].get(key)
            if known is None:
                problems.append(f"{path}.{key} is unknown")
            else:
                problems += schema_problems(inner, known, f"{path}.{key}")
    return problems


class RecordingAuditLog:
    """Implements `AuditLog`.

    Attributes:
        text: the lines of a file with these records.
        unchanged: the objects that the last refresh found unchanged.
    """

    def __init__(self) -> None:
        self.text = ""
        self.unchanged: list[object] = []

    def write(self, mount: AuditedMount) -> None:
        """Append the records of `mount`."""
        groups = list(record_groups(mount))
        self.unchanged = [record["object"] for group in groups for record in group.unchanged]
        for group in groups:
            self.text += json_lines(group.common, (*group.records, *group.unchanged))

    @property
    def records(self) -> list[dict[str, Any]]:
        """The records, which match the schema."""
        return checked_records(self.text)

    def take(self) -> list[dict[str, Any]]:
        """Return the records, and forget them."""
        records = self.records
        self.text = ""
        return records


def checked_records(text: str) -> list[dict[str, Any]]:
    """Parse lines of an audit log; each must match the schema, and none contains a canary."""
    assert "canary" not in text
    records = [json.loads(line) for line in text.splitlines()]
    for record in records:
        assert schema_problems(record, SCHEMA) == []
    return records
