"""Several connections to one database, as of the server, the command line and tests."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

from keyferry_devvault.storage.database import Database


def test_writes_of_others_are_seen_with_two_connections_in_one_process(tmp_path: Path) -> None:
    """A second connection does not release the locks of the first one.

    Without them, another process takes itself for the last user of the write-ahead log and removes
    it, and the first connection never sees another write.
    """
    path = tmp_path / "data.sqlite3"
    first, second = Database(path), Database(path)
    try:
        with first.write() as connection:
            connection.execute("CREATE TABLE note (text)")
        for count in (1, 2, 3):
            _write_in_another_process(path)

            assert count == first.read("notes", _count_notes)
            assert count == second.read("notes", _count_notes)
    finally:
        first.close()
        second.close()


def _count_notes(connection: sqlite3.Connection) -> int:
    (count,) = connection.execute("SELECT count(*) FROM note").fetchone()
    return int(count)


def _write_in_another_process(path: Path) -> None:
    code = (
        "import sqlite3, sys\n"
        "connection = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "connection.execute(\"INSERT INTO note VALUES ('x')\")\n"
        "connection.close()\n"
    )
    subprocess.run((sys.executable, "-c", code, str(path)), check=True)
