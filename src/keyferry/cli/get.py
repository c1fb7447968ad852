"""`keyferry get`: one object of a SecretProviderClass on standard output."""

from __future__ import annotations

import sys

import click

from keyferry.cli.commands import command
from keyferry.cli.console import console
from keyferry.cli.local.options import LocalOptions, local_options
from keyferry.errors import RequestInvalidError


@command(
    examples=(
        "keyferry get app.yaml db-password",
        "keyferry get app.yaml tls.pfx > tls.pfx",
        'PGPASSWORD="$(keyferry get app.yaml db-password)" psql',
    )
)
@local_options
@click.argument("object_name", metavar="OBJECT")
def get(options: LocalOptions, object_name: str) -> None:
    """Print the value of one object of a SecretProviderClass.

    OBJECT is the alias, the name or the path of an object. The value is written byte by byte; a
    newline follows it only on a terminal.
    """
    import asyncio

    console().configure_logs()
    _write(asyncio.run(_get(options, object_name)), object_name)


async def _get(options: LocalOptions, object_name: str) -> bytes:
    from keyferry.cli.local.engine import local_engine

    async with local_engine(options) as engine:
        request = await engine.request("/run/keyferry/get")
        content = await engine.fetch(request)
        return content.find(object_name).contents


def _write(value: bytes, object_name: str) -> None:
    out = sys.stdout.buffer
    if sys.stdout.isatty():
        _check_printable(value, object_name)
        if not value.endswith(b"\n"):
            value += b"\n"
    out.write(value)
    out.flush()


def _check_printable(value: bytes, object_name: str) -> None:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = "\0"
    if any(not char.isprintable() and char not in "\t\r\n" for char in text):
        raise RequestInvalidError(
            f"{object_name} is binary, and standard output is a terminal",
            "Write it to a file: keyferry get ... > FILE.",
        ) from None
