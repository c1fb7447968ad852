"""Parses the annotations `keyferry.dev/...` of a SecretSync. [pure]

An invalid value is reported, because annotations have no schema. It has no effect, except for the
name of the Secret with credentials: another identity than the intended one must not be used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.errors import excerpt
from keyferry.formats.go_values import parse_duration
from keyferry.kubernetes.names import object_name_problem
from keyferry.kubernetes.syncs.fields import (
    ADOPT,
    CREDENTIALS_SECRET,
    DRIFT,
    REFRESH,
    REFRESH_INTERVAL,
)
from keyferry.kubernetes.syncs.objects import NO_OPTIONS, InvalidField, SyncOptions

if TYPE_CHECKING:
    from collections.abc import Mapping

NEVER = "never"
IGNORE_DRIFT = "ignore"
_SWITCH = {"true": True, "false": False, "": False}


def parse_options(annotations: Mapping[str, str]) -> SyncOptions:
    """Return the options that the annotations of a SecretSync set."""
    values = {name: annotations.get(name, "").strip() for name in _REMEDIES}
    interval = _interval(values[REFRESH_INTERVAL])
    valid = {
        ADOPT: values[ADOPT] in _SWITCH,
        DRIFT: values[DRIFT] == IGNORE_DRIFT,
        REFRESH_INTERVAL: interval is not None,
    }
    problems = tuple(
        f"Annotation {name} has no effect: {excerpt(value)!r} is invalid. {_REMEDIES[name]}"
        for name, value in values.items()
        if value and not valid[name]
    )
    options = SyncOptions(
        credentials_secret=annotations.get(CREDENTIALS_SECRET, "").strip(),
        adopts=_SWITCH.get(values[ADOPT], False),
        ignores_drift=values[DRIFT] == IGNORE_DRIFT,
        refresh_mark=annotations.get(REFRESH, ""),
        refresh_interval=interval,
        problems=problems,
    )
    return NO_OPTIONS if options == NO_OPTIONS else options


def credentials_problem(options: SyncOptions) -> InvalidField | None:
    """Return why the name of the Secret with credentials is invalid, or None."""
    name = options.credentials_secret
    if not name or not (problem := object_name_problem(name)):
        return None
    return InvalidField(
        f"annotation {CREDENTIALS_SECRET}: {excerpt(name)!r} {problem}",
        "Write the name of a Secret of the same namespace.",
    )


_REMEDIES = {
    ADOPT: 'Write "true", or remove it.',
    DRIFT: f'Write "{IGNORE_DRIFT}", or remove it.',
    REFRESH_INTERVAL: f'Write a duration such as 10m, or "{NEVER}".',
}


def _interval(text: str) -> float | None:
    """Return the seconds of an interval; 0 for never; None if it is empty or invalid."""
    if text == NEVER:
        return 0.0
    try:
        seconds = parse_duration(text) if text else 0.0
    except ValueError:
        return None
    return seconds if seconds > 0 else None
