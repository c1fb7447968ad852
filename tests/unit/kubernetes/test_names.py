"""Names of Kubernetes objects."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyferry.errors import StoreError
from keyferry.kubernetes.names import (
    check_names,
    namespace_problem,
    object_name_problem,
    shortened,
)

NAMES = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,200}[a-z0-9])?(\.[a-z0-9]{1,60}){0,3}", fullmatch=True)


@pytest.mark.parametrize("name", ["a", "0", "web-1", "a" * 63])
def test_a_label_is_a_namespace(name: str) -> None:
    """A namespace is a DNS label."""
    assert namespace_problem(name) is None
    assert object_name_problem(name) is None


@pytest.mark.parametrize("name", ["a.b", "1.2.3", "a" * 253])
def test_other_objects_may_have_dots(name: str) -> None:
    """A name is a DNS subdomain; a namespace has neither dots nor more than 63 characters."""
    assert object_name_problem(name) is None
    assert namespace_problem(name) is not None


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../a",
        "a/b",
        "a\\b",
        "A",
        "a_b",
        "-a",
        "a-",
        "a..b",
        ".a",
        "a.",
        "ä",
        "a\n",
        "a\0",
    ],
)
def test_no_name_leads_anywhere(name: str) -> None:
    """What could be a path, hidden, or refused by Kubernetes is no name."""
    assert namespace_problem(name) is not None
    assert object_name_problem(name) is not None


@given(NAMES, NAMES)
def test_a_shortened_name_is_a_name_and_stays_distinct(one: str, other: str) -> None:
    """Shortening keeps names valid, within the limit, and different from each other."""
    for limit in (60, 253):
        assert object_name_problem(shortened(one, limit=limit)) is None
        assert len(shortened(one, limit=limit)) <= limit
        assert (one == other) == (shortened(one, limit=limit) == shortened(other, limit=limit))


def test_a_short_name_stays() -> None:
    """What fits is not touched."""
    assert "a" * 253 == shortened("a" * 253)
    assert shortened("a" * 254) != "a" * 254


@pytest.mark.parametrize(
    ("namespace", "name", "problem"),
    [
        ("../etc", "a", "namespace '../etc' is not a valid Kubernetes name: it must consist"),
        ("shop", "a/b", "Secret 'a/b' is not a valid Kubernetes name: it must consist"),
        ("shop", "a" * 254, "is not a valid Kubernetes name: it is longer than 253 characters"),
    ],
)
def test_an_invalid_name_gets_into_no_path(namespace: str, name: str, problem: str) -> None:
    with pytest.raises(StoreError) as refused:
        check_names(namespace, name, "Secret")
    assert problem in refused.value.problem
