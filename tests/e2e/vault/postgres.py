"""A real PostgreSQL with a cluster of its own, for the database engine of OpenBao.

async with running_postgres() as postgres:
    await postgres.query("select 1")                       # as the superuser
    await postgres.login("v-approle-app-1", "password")    # as another user, over TCP
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

from tests.e2e.children import ending_children
from tests.e2e.cluster.api_server import free_ports
from tests.e2e.cluster.waiting import eventually, must_run
from tests.e2e.vault.programs import server_programs

MANAGER, MANAGER_PASSWORD = "bao", "password-of-the-manager"
"""The user as whom OpenBao makes others."""

_USER = "postgres"
"""The user that the package creates: PostgreSQL does not run as root."""


@dataclass(frozen=True)
class Postgres:
    """A running PostgreSQL server.

    Attributes:
        folder: directory with its Unix socket.
        port: port on 127.0.0.1.
    """

    folder: Path
    port: int

    @property
    def connection_url(self) -> str:
        """Return the connection URL for OpenBao's database engine."""
        return f"postgresql://{{{{username}}}}:{{{{password}}}}@127.0.0.1:{self.port}/postgres?sslmode=disable"

    async def query(self, text: str) -> str:
        """Run a statement as the superuser and return its output.

        Raises:
            AssertionError: the statement failed.
        """
        return await self._psql(text, host=str(self.folder), user=_USER, environment={})

    async def login(self, user: str, password: str) -> str:
        """Log in with a password and return the user name that the server reports.

        Raises:
            AssertionError: the login failed.
        """
        return await self._psql(
            "select current_user",
            host="127.0.0.1",
            user=user,
            environment={"PGPASSWORD": password},
        )

    async def made_users(self) -> list[str]:
        """Return the existing users that OpenBao created, in order."""
        names = await self.query("select rolname from pg_roles where rolname like 'v-%' order by 1")
        return names.split()

    async def _psql(
        self, text: str, *, host: str, user: str, environment: Mapping[str, str]
    ) -> str:
        program = str(server_programs().postgresql / "psql")
        run = await asyncio.to_thread(
            subprocess.run,
            [
                program,
                "-XAtw",
                "-h",
                host,
                "-p",
                str(self.port),
                "-U",
                user,
                "-d",
                "postgres",
                "-c",
                text,
            ],
            env={"PATH": os.environ["PATH"], **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert 0 == run.returncode, run.stderr
        return run.stdout.strip()


@asynccontextmanager
async def running_postgres() -> AsyncIterator[Postgres]:
    """Run a server in which OpenBao may create users. It is deleted when the block ends."""
    # Not below the folder of the test, which other users may not enter.
    folder = Path(mkdtemp(prefix="keyferry-pg-"))
    try:
        shutil.chown(folder, _USER, _USER)
        async with ending_children(folder / "logs") as children:
            programs = server_programs().postgresql
            become = ("--reuid", _USER, "--regid", _USER, "--init-groups")
            data = folder / "data"
            initialise = [
                *(str(programs / "initdb"), f"--pgdata={data}", "--no-sync", "--encoding=UTF8"),
                *("--auth-local=trust", "--auth-host=scram-sha-256", "--locale=C"),
            ]
            await children.run("initdb", "setpriv", *become, *initialise)
            (port,) = free_ports(1)
            child = children.start(
                "postgres",
                "setpriv",
                *become,
                str(programs / "postgres"),
                *("-D", str(data), "-k", str(folder), "-h", "127.0.0.1", "-p", str(port), "-F"),
            )
            postgres = Postgres(folder, port)

            async def responds() -> bool:
                must_run(child)
                return bool(await postgres.query("select 1"))

            try:
                await eventually(responds, "PostgreSQL to respond")
                await postgres.query(
                    f"create role {MANAGER} login createrole password '{MANAGER_PASSWORD}'"
                )
                yield postgres
            finally:
                # Ends the sessions as well, which are processes of their own.
                child.send(signal.SIGINT)
                await child.ends()
    finally:
        shutil.rmtree(folder)
