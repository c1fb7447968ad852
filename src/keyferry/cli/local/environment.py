"""Which environment variables of a child process get which values. [pure]

Without a choice, each file of the volume is a variable: `db-password` becomes DB_PASSWORD, unless
`envNames` of the SecretProviderClass chooses another name. With `--env`, `--env-file` or
`--env-from`, only the chosen values are variables.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.errors import ObjectUnusableError, RequestInvalidError, excerpt
from keyferry.rendering.fields import default_variable_name, is_variable_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MAX_VARIABLE_BYTES = 128 * 1024
"""Linux refuses to start a program with a longer `NAME=value` (MAX_ARG_STRLEN)."""

_SPECIAL = frozenset({"BASH_ENV", "ENV", "HOME", "IFS", "PATH", "SHELL", "USER"})
_SPECIAL_PREFIXES = ("LD_", "DYLD_")


def parse_assignment(text: str, place: str) -> tuple[str, str]:
    """Return name and object of `NAME=OBJECT`.

    Args:
        text: the assignment.
        place: where it is, for the error, such as `--env`.

    Raises:
        RequestInvalidError: it has another form, or the name cannot be that of a variable.
    """
    name, separator, object_name = text.partition("=")
    name, object_name = name.strip(), _unquoted(object_name.strip())
    if not separator or not object_name:
        raise RequestInvalidError(
            f"{place}: {excerpt(text)!r} is not NAME=OBJECT",
            "Write, for example, DB_PASSWORD=db-password.",
        )
    if not is_variable_name(name):
        raise RequestInvalidError(
            f"{place}: {excerpt(name)!r} cannot be the name of an environment variable",
            "Use letters, digits and '_', and do not begin with a digit.",
        )
    return name, object_name


def parse_env_file(text: str, path: str) -> list[tuple[str, str]]:
    """Return the assignments of a file: one `NAME=OBJECT` per line.

    Empty lines and lines that begin with `#` are skipped, `export` and quotes are permitted.

    Args:
        text: the content of the file.
        path: its path, for errors.

    Raises:
        RequestInvalidError: a line is not an assignment; the message has its number.
    """
    lines = ((number, line.strip()) for number, line in enumerate(text.splitlines(), start=1))
    return [
        parse_assignment(line.removeprefix("export "), f"{path} line {number}")
        for number, line in lines
        if line and not line.startswith("#")
    ]


def default_name(path: str) -> str:
    """Return the name of the variable for the file at `path`.

    Raises:
        RequestInvalidError: the name would be invalid, or have a meaning for every program.
    """
    name = default_variable_name(path)
    if not is_variable_name(name):
        raise RequestInvalidError(
            f"{path} has no valid name as an environment variable: {name} begins with a digit",
            f"Choose a name: --env NAME={path}. Then only the chosen objects become variables.",
        )
    if name in _SPECIAL or name.startswith(_SPECIAL_PREFIXES):
        raise RequestInvalidError(
            f"{path} would replace the environment variable {name}",
            f"Choose another name: --env NAME={path}. If you want to replace it, write"
            f" --env {name}={path}.",
        )
    return name


def default_names(paths: Iterable[str], given: Mapping[str, str]) -> dict[str, str]:
    """Return the path of the file of each variable, if nothing is chosen.

    Args:
        paths: of the files.
        given: names in `envNames` of the SecretProviderClass, by path; "" for no variable.

    Raises:
        RequestInvalidError: a name is not possible, or two files have one name.
    """
    names: dict[str, str] = {}
    for path in paths:
        name = given[path] if path in given else default_name(path)
        if not name:
            continue
        if (other := names.setdefault(name, path)) != path:
            raise RequestInvalidError(
                f"{other} and {path} would both be the environment variable {name}",
                f"Choose names: --env NAME={other} --env OTHER_NAME={path}.",
            )
    return names


def variables(values: Mapping[str, tuple[str, bytes]]) -> dict[str, str]:
    """Return the environment variables.

    Args:
        values: name of the variable -> name of the object for messages, and its value.

    Raises:
        ObjectUnusableError: a value cannot be that of an environment variable.
    """
    return {name: _value(name, *value) for name, value in values.items()}


def _value(name: str, object_name: str, value: bytes) -> str:
    problem = ""
    if b"\0" in value:
        problem = "contains a zero byte"
    elif len(name) + len(value) + 2 > MAX_VARIABLE_BYTES:
        problem = f"has {len(value)} bytes, and the limit is {MAX_VARIABLE_BYTES - len(name) - 2}"
    else:
        try:
            return value.decode()
        except UnicodeDecodeError:
            problem = "is not UTF-8 text"
    # From None: the cause would hold the value.
    raise ObjectUnusableError(
        f"{object_name} cannot be an environment variable: the value {problem}",
        "Use it as a file (keyferry mount), and choose the other objects with --env.",
    ) from None


def _unquoted(text: str) -> str:
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]
    return text
