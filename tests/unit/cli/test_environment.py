"""Which variables `keyferry run` sets: names from files, and chosen ones."""

from __future__ import annotations

import pytest

from keyferry.cli.local.environment import (
    MAX_VARIABLE_BYTES,
    default_names,
    parse_assignment,
    parse_env_file,
    variables,
)
from keyferry.errors import ObjectUnusableError, RequestInvalidError


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("db-password", "DB_PASSWORD"),
        ("SECRET_1", "SECRET_1"),
        ("tls.crt", "TLS_CRT"),
        ("app/db/password", "APP_DB_PASSWORD"),
        ("_internal", "_INTERNAL"),
        ("schlüssel", "SCHL_SSEL"),
        ("my_path", "MY_PATH"),
    ],
)
def test_name_of_a_variable_comes_from_the_path(path: str, name: str) -> None:
    assert {name: path} == default_names([path], {})


def test_names_of_the_class_come_first() -> None:
    """Those of `envNames`; an empty one leaves the file out."""
    given = {"1st": "FIRST", "tls.p12": ""}
    assert {"FIRST": "1st", "DB": "db"} == default_names(["1st", "tls.p12", "db"], given)


@pytest.mark.parametrize(
    ("paths", "problem"),
    [
        (["a-b", "a.b"], "a-b and a.b would both be the environment variable A_B"),
        (["db", "DB"], "db and DB would both be the environment variable DB"),
        (["1st"], "1st has no valid name as an environment variable"),
        (["path"], "path would replace the environment variable PATH"),
        (["ld-preload"], "ld-preload would replace the environment variable LD_PRELOAD"),
        (["bash_env"], "bash_env would replace the environment variable BASH_ENV"),
    ],
)
def test_impossible_name_is_refused_and_the_remedy_is_an_option(
    paths: list[str], problem: str
) -> None:
    with pytest.raises(RequestInvalidError) as caught:
        default_names(paths, {})
    assert caught.value.problem.startswith(problem)
    assert "--env NAME=" in caught.value.remedy


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("DB=db-password", ("DB", "db-password")),
        ("DB = db-password ", ("DB", "db-password")),
        ("DB='db password'", ("DB", "db password")),
        ("PATH=path", ("PATH", "path")),
        ("db=a=b", ("db", "a=b")),
    ],
)
def test_assignment_has_a_name_and_an_object(text: str, parsed: tuple[str, str]) -> None:
    assert parsed == parse_assignment(text, "--env")


@pytest.mark.parametrize("text", ["", "DB", "DB=", "=db", "1A=db", "A-B=db", "A B=db"])
def test_other_assignment_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(RequestInvalidError, match=r"^--env: "):
        parse_assignment(text, "--env")


def test_file_may_have_comments_empty_lines_and_export() -> None:
    text = '# variables\n\nDB=db-password\r\nexport API_KEY="api-key"\n  # end\n'
    assert [("DB", "db-password"), ("API_KEY", "api-key")] == parse_env_file(text, "f")


def test_error_in_a_file_has_the_line() -> None:
    with pytest.raises(RequestInvalidError, match=r"^vars\.env line 3: 'oops' is not NAME=OBJECT"):
        parse_env_file("A=a\n\noops\n", "vars.env")


def test_text_is_passed_exactly() -> None:
    values = {"A": ("a", b"x\n"), "B": ("b", "ü = 1".encode()), "C": ("c", b"")}
    assert {"A": "x\n", "B": "ü = 1", "C": ""} == variables(values)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (b"canary\0", "the value contains a zero byte"),
        (b"canary\xff", "the value is not UTF-8 text"),
        (b"c" * MAX_VARIABLE_BYTES, "the value has 131072 bytes, and the limit is 131069"),
    ],
)
def test_value_that_cannot_be_a_variable_is_refused_without_quoting_it(
    value: bytes, problem: str
) -> None:
    with pytest.raises(ObjectUnusableError) as caught:
        variables({"A": ("app.pfx", value)})
    assert caught.value.problem == f"app.pfx cannot be an environment variable: {problem}"
    assert caught.value.__cause__ is None
    assert "canary" not in str(caught.value)
