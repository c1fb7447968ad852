"""Parses and formats durations, rates and faults of the command line. [pure]"""

from __future__ import annotations

import re
from typing import assert_never

from keyferry.errors import RequestInvalidError
from keyferry_devvault.model import (
    CloseMidResponse,
    Fault,
    FaultAction,
    Hang,
    RespondStatus,
    Tuning,
)

_SUBJECT_PREFIX = "system:serviceaccount:"
_NAME = "([a-z0-9](?:[-.a-z0-9]{0,251}[a-z0-9])?)"
_SUBJECT = re.compile(f"{_SUBJECT_PREFIX}{_NAME}:{_NAME}")
_SHORT_SUBJECT = re.compile(f"(?:{_SUBJECT_PREFIX})?{_NAME}[:/]{_NAME}")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_RATE = re.compile(r"(\d+)/s")
_TIMES = re.compile(r"x([1-9]\d{0,5})")
_STATUS = re.compile(r"[1-5]\d\d")


def parse_duration(text: str) -> float:
    """Return the seconds in `20ms`, `1.5s`, `5m`, `1h` or `7d`.

    Raises:
        RequestInvalidError: it has another format.
    """
    if matched := _DURATION.fullmatch(text.strip()):
        return float(matched[1]) * _UNITS[matched[2]]
    raise RequestInvalidError(
        f"{text!r} is not a duration", "Write it as 20ms, 1.5s, 5m, 1h or 7d."
    )


def parse_rate(text: str) -> int | None:
    """Return the requests per second in `10/s`; None for `off`.

    Raises:
        RequestInvalidError: it has another format.
    """
    if text.strip() == "off":
        return None
    if matched := _RATE.fullmatch(text.strip()):
        return int(matched[1])
    raise RequestInvalidError(f"{text!r} is not a rate", "Write it as 10/s, or off.")


def parse_subject(subject: str) -> tuple[str, str]:
    """Return the namespace and the name of the service account in `subject`.

    Raises:
        RequestInvalidError: it is not `system:serviceaccount:NAMESPACE:NAME`.
    """
    if matched := _SUBJECT.fullmatch(subject):
        return matched[1], matched[2]
    short = _SHORT_SUBJECT.fullmatch(subject)
    raise RequestInvalidError(
        f"{subject!r} is not the subject of a service account",
        f"Write {_SUBJECT_PREFIX}{short[1]}:{short[2]}."
        if short
        else f"Write {_SUBJECT_PREFIX}NAMESPACE:NAME, with names as in Kubernetes.",
    )


def parse_fault(text: str) -> Fault:
    """Return the fault in `MATCH ACTION [xTIMES]`.

    ACTION is `STATUS [retry-after=SECONDS | code=CODE]`, `close` or `hang`.

    Raises:
        RequestInvalidError: it has another format.
    """
    words = text.split()
    times = None
    if len(words) > 2 and (matched := _TIMES.fullmatch(words[-1])):
        times = int(matched[1])
        words.pop()
    match words:
        case [match, "close"]:
            return Fault(match, CloseMidResponse(), times)
        case [match, "hang"]:
            return Fault(match, Hang(), times)
        case [match, status] if _STATUS.fullmatch(status):
            return Fault(match, RespondStatus(int(status)), times)
        case [match, status, option] if _STATUS.fullmatch(status):
            name, _, value = option.partition("=")
            if name == "retry-after" and re.fullmatch(r"\d{1,6}", value):
                return Fault(match, RespondStatus(int(status), int(value)), times)
            if name == "code" and re.fullmatch(r"[A-Za-z]{1,50}", value):
                return Fault(match, RespondStatus(int(status), code=value), times)
    raise RequestInvalidError(
        f"{text!r} is not a fault",
        "Write MATCH ACTION [xTIMES], for example"
        " 'contoso.vault.azure.net/secrets 429 retry-after=2 x3',"
        " 'login.microsoftonline.com close x1' or '/metadata hang'.",
    )


def format_fault(fault: Fault) -> str:
    """Return a fault in the format of `parse_fault`."""
    times = "" if fault.remaining is None else f" x{fault.remaining}"
    return f"{fault.match} {_format_action(fault.action)}{times}"


def format_tuning(tuning: Tuning) -> str:
    """Return all values of a tuning in one line."""
    throttle = "off" if tuning.throttle is None else f"{tuning.throttle}/s"
    return (
        f"latency {tuning.latency * 1000:g}ms, throttle {throttle},"
        f" retry-after {tuning.retry_after}s, token-lifetime {tuning.token_lifetime}s"
    )


def _format_action(action: FaultAction) -> str:
    match action:
        case RespondStatus(status, retry_after, code):
            header = "" if retry_after is None else f" retry-after={retry_after}"
            return f"{status}{header}{f' code={code}' if code else ''}"
        case CloseMidResponse():
            return "close"
        case Hang():
            return "hang"
        case _:
            assert_never(action)
