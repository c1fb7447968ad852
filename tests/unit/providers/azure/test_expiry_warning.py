"""keyferry.providers.azure.objects_yaml: how long before its expiry to warn of an object."""

from __future__ import annotations

import pytest

from keyferry.errors import ClassInvalidError
from keyferry.providers.azure.objects_yaml import parse_expiry_warning


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("720h", 2_592_000.0),
        ("30d", 2_592_000.0),
        (" 1h30m ", 5400.0),
        ("0", 0.0),
        ("3650d", 315_360_000.0),
    ],
)
def test_duration_is_parsed(text: str, seconds: float) -> None:
    """In Go's format, or in whole days."""
    assert seconds == parse_expiry_warning(text, default=7.0)


def test_empty_text_is_the_default() -> None:
    """Without a default there is no warning."""
    assert [7.0, 0.0] == [parse_expiry_warning(" ", default=7.0), parse_expiry_warning("")]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("soon", "expiryWarning is not a duration: soon"),
        ("30", "expiryWarning is not a duration: 30"),
        ("1.5d", "expiryWarning is not a duration: 1.5d"),
        ("-1h", "expiryWarning is not between 0 and 3650d: -1h"),
        ("3651d", "expiryWarning is not between 0 and 3650d: 3651d"),
        ("9" * 400 + "h", f"expiryWarning is not between 0 and 3650d: {'9' * 100}..."),
    ],
)
def test_invalid_duration_is_rejected(text: str, problem: str) -> None:
    """The message has the field, the value and the correct form."""
    with pytest.raises(ClassInvalidError) as caught:
        parse_expiry_warning(text)
    assert (problem, "Write a duration such as 720h or 30d; 0 means no warning.") == (
        caught.value.problem,
        caught.value.remedy,
    )
