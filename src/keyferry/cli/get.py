"""`keyferry get`: one object of a SecretProviderClass, or a list of all without their values."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from keyferry.cli.commands import command, option
from keyferry.cli.console import console
from keyferry.cli.local.options import LocalOptions, local_options
from keyferry.cli.output import (
    OutputFormat,
    format_table,
    output_option,
    print_document,
    table_cell,
)
from keyferry.errors import RequestInvalidError

if TYPE_CHECKING:
    from keyferry.cli.local.content import FetchedContent


def _check_object(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Check that either an object is named or --list is set."""
    lists = ctx.params["lists"]
    if value is None and not lists:
        raise click.MissingParameter(ctx=ctx, param=param)
    if value is not None and lists:
        raise click.UsageError("--list and OBJECT exclude each other", ctx)
    return value


@command(
    examples=(
        "keyferry get app.yaml db-password",
        "keyferry get app.yaml tls.pfx > tls.pfx",
        'PGPASSWORD="$(keyferry get app.yaml db-password)" psql',
        "# what a mount would write, for example which objects `find` selects",
        "keyferry get app.yaml --list",
    )
)
@local_options
@click.argument("object_name", metavar="OBJECT", required=False, callback=_check_object)
@option(
    "--list",
    "lists",
    is_flag=True,
    is_eager=True,
    section="Output",
    help="List the objects and files that a mount would write, without values.",
)
@output_option
def get(options: LocalOptions, object_name: str | None, lists: bool, output: OutputFormat) -> None:
    """Print the value of one object of a SecretProviderClass.

    OBJECT is the alias, the name or the path of an object. The value is written byte by byte; a
    newline follows it only on a terminal. With --list, all objects and files are listed instead.
    """
    import asyncio

    if not lists and output is not OutputFormat.TABLE:
        raise click.UsageError(f"-o {output} requires --list")
    console().configure_logs()
    content = asyncio.run(_fetch(options))
    if object_name:
        _write(content.find(object_name).contents, object_name)
    elif output is OutputFormat.TABLE:
        click.echo(_tables(_listed(content)))
    else:
        print_document(_listed(content), output)


async def _fetch(options: LocalOptions) -> FetchedContent:
    from keyferry.cli.local.engine import local_engine

    async with local_engine(options) as engine:
        return await engine.fetch(await engine.request("/run/keyferry/get"))


def _listed(content: FetchedContent) -> dict[str, list[dict[str, object]]]:
    """Return the objects and files; of a file only what a mount shows of it."""
    from datetime import UTC, datetime

    expiries = {
        each.object_id: datetime.fromtimestamp(each.expires_at, UTC) for each in content.expiries
    }
    versions = sorted({each.id: each.version for each in content.versions}.items())
    return {
        "objects": [
            {
                "id": id_,
                "version": version,
                "expiresAt": expiries[id_].isoformat() if id_ in expiries else None,
            }
            for id_, version in versions
        ],
        "files": [
            {
                "path": file.path,
                "mode": f"{file.mode:04o}",
                "uid": file.owner.uid if file.owner else None,
                "gid": file.owner.gid if file.owner else None,
            }
            for file in sorted(content.files, key=lambda file: file.path)
        ],
    }


def _tables(listed: dict[str, list[dict[str, object]]]) -> str:
    objects = {"OBJECT": "id", "VERSION": "version", "EXPIRES": "expiresAt"}
    files = {"FILE": "path", "MODE": "mode", "UID": "uid", "GID": "gid"}
    texts = []
    for columns, rows in ((objects, listed["objects"]), (files, listed["files"])):
        cells = [[table_cell(row[key]) for key in columns.values()] for row in rows]
        texts.append(format_table([list(columns), *cells]))
    return "\n\n".join(texts)


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
