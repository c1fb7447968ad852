"""keyferry.formats.yaml_values: what plain scalars mean to Go's yaml.v3."""

from __future__ import annotations

import pytest

from keyferry.formats.yaml_text import YamlScalar, read_yaml
from keyferry.formats.yaml_values import parse_integer, typed_value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("FALSE", False),
        ("yes", "yes"),
        ("off", "off"),
        ("10", 10),
        ("-3", -3),
        ("0x1F", 31),
        ("0o17", 15),
        ("017", 15),
        ("0b11", 3),
        ("1_000", 1000),
        ("18446744073709551615", 2**64 - 1),
        ("1.5", 1.5),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("1:30", "1:30"),
        ("~", None),
        ("", None),
        ('"10"', "10"),
        ("'true'", "true"),
        ("2026-01-02", "2026-01-02T00:00:00Z"),
        ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z"),
        ("2026-01-02 03:04:05.500", "2026-01-02T03:04:05.5Z"),
        ("2026-01-02t03:04:05+02:00", "2026-01-02T03:04:05+02:00"),
        ("2026-13-02", "2026-13-02"),
        ("[1, a, [true]]", [1, "a", [True]]),
        ("{a: {b: 1}}", {"a": {"b": 1}}),
        ("0899", 899.0),
        ("0XFF", 255),
        ("1e400", "1e400"),
        ("9" * 60, float("9" * 60)),
        ("2026-01-02T03:04:05", "2026-01-02T03:04:05"),
        ("2026-01-02 03:04:05 +02:00", "2026-01-02 03:04:05 +02:00"),
        ("!!str 10", "10"),
        ("!own 10", "10"),
        ("!!int '10'", 10),
    ],
)
def test_types_are_kept(text: str, value: object) -> None:
    """Quoted scalars are texts; so are the words that YAML 1.1 took for booleans."""
    node = read_yaml(f"x: {text}")
    assert {"x": value} == typed_value(node)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0644", 0o644),
        ("0o644", 0o644),
        ("420", 420),
        ("0", 0),
        ('"0644"', None),
        ("0x", None),
        ("0999", 999),
        ("2.0", 2),
        ("2.9", 2),
        ("-1.5", -1),
        ("1e2", 100),
        ("1_0", 10),
        (".inf", None),
        (".nan", None),
        ("!!str 5", None),
        ("a", None),
        ("true", None),
        ("9" * 5000, None),
    ],
)
def test_integers_are_plain_and_octal_with_a_zero(text: str, number: int | None) -> None:
    node = read_yaml(text)
    assert isinstance(node, YamlScalar)
    assert number == parse_integer(node)
