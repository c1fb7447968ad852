"""keyferry.providers.azure.versions: which versions a history holds."""

from __future__ import annotations

import pytest

from keyferry.errors import ObjectNotFoundError
from keyferry.providers.azure.responses import ListedVersion
from keyferry.providers.azure.versions import (
    ObjectDisabledError,
    choose_versions,
    disabled_error,
)

LISTED = tuple(
    ListedVersion(version, enabled=True, created_at=created)
    for version, created in (("c", 30), ("a", 50), ("e", 10), ("d", 20), ("b", 40))
)


def chosen(*listed: ListedVersion, start: str = "", count: int = 10) -> str:
    return "".join(each.version for each in choose_versions(listed, start=start, count=count))


@pytest.mark.parametrize(
    ("start", "count", "expected"),
    [
        ("", 10, "abcde"),
        ("", 5, "abcde"),
        ("", 3, "abc"),
        ("c", 10, "cde"),
        ("C", 2, "cd"),
        ("e", 5, "e"),
    ],
)
def test_newest_versions_come_first(start: str, count: int, expected: str) -> None:
    """From the start, as many as requested and not one more."""
    assert expected == chosen(*LISTED, start=start, count=count)


def test_disabled_versions_are_skipped() -> None:
    """Also versions without attributes."""
    disabled = ListedVersion("x", enabled=False, created_at=60)
    unknown = ListedVersion("y", enabled=None, created_at=70)
    assert "ab" == chosen(disabled, *LISTED, unknown, count=2)


def test_versions_of_equal_age_keep_the_order_of_the_list() -> None:
    """The same list results in the same files."""
    same = [ListedVersion(version, enabled=True, created_at=0) for version in "zxy"]
    assert "zxy" == chosen(*same)


@pytest.mark.parametrize("start", ["x", "f"])
def test_missing_start_version_is_an_error(start: str) -> None:
    """Unknown or disabled; upstream delivers nothing, without a message."""
    disabled = ListedVersion("x", enabled=False, created_at=60)
    with pytest.raises(ObjectNotFoundError, match=f"version {start} is not among its 5 enabled"):
        chosen(disabled, *LISTED, start=start)


def test_no_enabled_version_is_an_error() -> None:
    """There would be no file."""
    with pytest.raises(ObjectNotFoundError, match="no enabled version"):
        chosen(ListedVersion("x", enabled=False, created_at=60))


@pytest.mark.parametrize(
    ("listed", "problem", "remedy"),
    [
        (
            LISTED,
            "x is disabled; its newest enabled version is a",
            "Enable; or set objectVersion: a.",
        ),
        ((), "x is disabled; it has no enabled version", "Enable."),
        (None, "x is disabled", "Enable; or set objectVersion to an enabled version."),
    ],
)
def test_error_for_a_disabled_version_names_the_newest_enabled_one(
    listed: tuple[ListedVersion, ...] | None, problem: str, remedy: str
) -> None:
    """Without permission to list the versions, it names the parameter."""
    found = disabled_error(ObjectDisabledError("x is disabled", "Enable."), listed)
    assert (problem, remedy) == (found.problem, found.remedy)
