"""Runs a probe that another Keyferry requests over standard input."""

from __future__ import annotations


async def probe_from_stdin() -> None:
    """Read a request from standard input, and print the checks."""
    raise NotImplementedError
