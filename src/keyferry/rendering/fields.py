"""Reads single fields and parameters that several options share. [pure]"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from keyferry.content import MAX_ID, FileOwner
from keyferry.errors import ClassInvalidError, excerpt
from keyferry.formats.go_values import parse_boolean
from keyferry.formats.yaml_text import YamlScalar

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keyferry.formats.yaml_text import YamlNode

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OWNER = re.compile(r"([0-9]{1,10})(?::([0-9]{1,10}))?")
_MODE = re.compile(r"0?[0-7]{1,3}")


def scalar_text(fields: Mapping[str, YamlNode], name: str) -> str | None:
    """Return a field as written; None if it is absent or null.

    Raises:
        ClassInvalidError: it is a list or a mapping.
    """
    node = fields.get(name)
    if node is None or (isinstance(node, YamlScalar) and node.is_null):
        return None
    if not isinstance(node, YamlScalar):
        raise ClassInvalidError(f"{name} is a list or a mapping", "Set it to a single value.")
    return node.text


def parse_switch(name: str, text: str | None, *, default: bool = False) -> bool:
    """Return a field or parameter that is true or false.

    Args:
        name: of the field, for messages.
        text: its value; None or "" for the default.
        default: the result without a value.

    Raises:
        ClassInvalidError: it is neither.
    """
    text = (text or "").strip()
    if not text:
        return default
    value = parse_boolean(text)
    if value is None:
        problem = f"{name} is neither true nor false: '{excerpt(text)}'"
        raise ClassInvalidError(problem, f"Set {name} to true or false.")
    return value


def parse_owner(text: str | None) -> FileOwner | None:
    """Return the owner that `fileOwner` names; None for None or "".

    Raises:
        ClassInvalidError: the text is not a numeric user, or user and group.
    """
    text = (text or "").strip()
    if not text:
        return None
    found = _OWNER.fullmatch(text)
    remedy = "Write numeric ids as uid or uid:gid, such as 999 or 999:999; a volume has no names."
    if found is None:
        raise ClassInvalidError(f"fileOwner '{excerpt(text)}' is not a uid or uid:gid", remedy)
    uid, gid = int(found[1]), None if found[2] is None else int(found[2])
    if uid > MAX_ID or (gid or 0) > MAX_ID:
        problem = f"fileOwner '{excerpt(text)}' has an id above {MAX_ID}"
        raise ClassInvalidError(problem, remedy)
    return FileOwner(uid, gid)


def parse_mode(text: str | None) -> int | None:
    """Return the mode that `filePermission` names; None for None or "".

    Raises:
        ClassInvalidError: the text is not an octal mode.
    """
    text = (text or "").strip()
    if not text:
        return None
    if not _MODE.fullmatch(text):
        problem = f"filePermission '{excerpt(text)}' is not an octal mode"
        raise ClassInvalidError(problem, "Write a mode such as 0640.")
    return int(text, 8)


def is_variable_name(name: str) -> bool:
    """Return whether shells accept `name` for an environment variable."""
    return _VARIABLE.fullmatch(name) is not None


def default_variable_name(path: str) -> str:
    """Return the name for the file at `path`: `db/password` -> `DB_PASSWORD`.

    It is not valid if it begins with a digit.
    """
    return re.sub(r"[^A-Za-z0-9]", "_", path).upper()
