"""The parser of kubelet for files with environment variables, line by line.

Source: https://github.com/kubernetes/kubernetes/blob/v1.35.4/pkg/kubelet/util/env/env_util.go
"""

from __future__ import annotations

from collections.abc import Iterator

_MAX_LINE = 64 * 1024
"""The longest line of a bufio.Scanner of Go."""


def parse_env(text: str, key: str) -> str:
    """Return the value of a variable; "" if the file does not set it.

    Raises:
        ValueError: the file is invalid.
    """
    lines = _scan(text)
    for each in lines:
        line = each.lstrip(" \t")
        if not line or line.startswith("#"):
            continue
        name, separator, value = line.partition("=")
        if not separator or not name or name != name.rstrip(" \t"):
            raise ValueError(f"invalid variable {name!r}")
        if value[:1] in (" ", "\t"):
            if name == key:
                return ""
            continue
        if not value.startswith("'"):
            raise ValueError("value must be enclosed in single quotes")
        found = _quoted(value[1:], lines)
        if name == key:
            return found
    return ""


def _quoted(rest: str, lines: Iterator[str]) -> str:
    value = ""
    while "'" not in rest:
        value += rest + "\n"
        following = next(lines, None)
        if following is None:
            raise ValueError("unclosed single quote")
        rest = following
    end, _, after = rest.partition("'")
    after = after.lstrip(" \t")
    if after and not after.startswith("#"):
        raise ValueError("unexpected content after closing quote")
    return value + end


def _scan(text: str) -> Iterator[str]:
    """Yield lines as bufio.ScanLines does: without LF, and without a CR before it."""
    lines = text.split("\n")
    for line in lines[:-1] if text.endswith("\n") else lines:
        if len(line.encode()) >= _MAX_LINE:
            raise ValueError("token too long")
        yield line.removesuffix("\r")
