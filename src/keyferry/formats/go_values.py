"""Values as Go programs read them: durations, booleans, and plain YAML scalars. [pure]"""

from __future__ import annotations

import math
import re
from datetime import date, datetime

_SECONDS = {
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,
    "μs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
}
_PART = r"([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)"
_DURATION = re.compile(rf"([-+]?)((?:{_PART})+)")
_DURATION_PART = re.compile(_PART)


def parse_duration(text: str) -> float:
    """Seconds in a Go duration such as `1h30m`; `0` needs no unit.

    Raises:
        ValueError: the text is not a duration.
    """
    found = _DURATION.fullmatch(text)
    if found is None:
        if text.lstrip("+-") == "0":
            return 0.0
        raise ValueError("write a duration such as 30s, 2m or 1h30m")
    seconds = sum(float(n) * _SECONDS[unit] for n, unit in _DURATION_PART.findall(found[2]))
    return -seconds if found[1] == "-" else seconds


# --- Booleans of Go programs; any other word is invalid ---

_BOOLEANS = {
    **dict.fromkeys(("1", "t", "T", "TRUE", "true", "True"), True),
    **dict.fromkeys(("0", "f", "F", "FALSE", "false", "False"), False),
}


def parse_boolean(text: str) -> bool | None:
    """What the word says; None when it says neither."""
    return _BOOLEANS.get(text)


# --- Plain scalars of YAML, by the rules of yaml.v3 -----------------------------------------------

YAML_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_YAML_BOOLEANS = {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_YAML_INFINITIES = {
    **dict.fromkeys(
        (sign + word for sign in ("", "+") for word in (".inf", ".Inf", ".INF")), math.inf
    ),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), -math.inf),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
}
_BASES = {"0b": 2, "0o": 8, "0x": 16}
_INTEGER = re.compile(r"[-+]?(0[bB][01]+|0[oO][0-7]+|0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_DATE = re.compile(r"([0-9]{4})-([0-9]{1,2})-([0-9]{1,2})")
_TIMESTAMP = re.compile(
    _DATE.pattern + r"(?:([Tt])|[ ]+)([0-9]{1,2}):([0-9]{1,2}):([0-9]{1,2})(\.[0-9]{1,9})?"
    r"(Z|[-+][0-9]{2}:[0-9]{2})?"
)
_MAX_INTEGER = 2**64 - 1
_MIN_INTEGER = -(2**63)


def yaml_number(text: str) -> int | float | None:
    """Return the number that a plain scalar stands for; None if it is not a number.

    A leading 0 or 0o means octal; `08`, which is not octal, is a float. Numbers that are too large
    for Go are texts.
    """
    if text in _YAML_INFINITIES:
        return _YAML_INFINITIES[text]
    if text[:1] not in "+-.0123456789" or not text:
        return None
    plain = text.replace("_", "") if text[0] != "." else text
    if _INTEGER.fullmatch(plain) and (number := _yaml_integer(plain)) is not None:
        return number
    if not _FLOAT.fullmatch(plain):
        return None
    value = float(plain)
    return None if math.isinf(value) else value


def _yaml_integer(plain: str) -> int | None:
    if len(plain) > 70:  # more than 64 binary digits, a prefix and a sign
        return None
    digits = plain.lstrip("+-").lower()
    base = _BASES.get(digits[:2], 8 if digits.startswith("0") else 10)
    number = int(digits[2:] if digits[:2] in _BASES else digits, base)
    number = -number if plain.startswith("-") else number
    return number if _MIN_INTEGER <= number <= _MAX_INTEGER else None


def yaml_boolean(text: str) -> bool | None:
    """Return the boolean that a plain scalar stands for; `yes` and `on` are texts."""
    return _YAML_BOOLEANS.get(text)


def yaml_timestamp(text: str) -> str | None:
    """Return a date or timestamp in RFC 3339; None for any other text."""
    if found := _DATE.fullmatch(text):
        year, month, day = map(int, found.groups())
        return f"{_date_text(year, month, day)}T00:00:00Z" if _is_date(year, month, day) else None
    found = _TIMESTAMP.fullmatch(text)
    # With a T the zone is required, and with a blank it is not permitted.
    if found is None or bool(found[4]) != bool(found[9]):
        return None
    year, month, day, hour, minute, second = (int(found[n]) for n in (1, 2, 3, 5, 6, 7))
    try:
        datetime(year, month, day, hour, minute, second)  # noqa: DTZ001 - only whether it exists
    except ValueError:
        return None
    fraction = (found[8] or "").rstrip("0").rstrip(".")
    zone = found[9] or "Z"
    zone = "Z" if zone in ("+00:00", "-00:00") else zone
    clock = f"{hour:02d}:{minute:02d}:{second:02d}{fraction}"
    return f"{_date_text(year, month, day)}T{clock}{zone}"


def _date_text(year: int, month: int, day: int) -> str:
    """`2026-01-02`."""
    return f"{year:04d}-{month:02d}-{day:02d}"


def _is_date(year: int, month: int, day: int) -> bool:
    try:
        date(year, month, day)
    except ValueError:
        return False
    return True
