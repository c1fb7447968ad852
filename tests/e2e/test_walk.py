"""README and docs/getting-started.md, walked by an ordinary user in an empty home, word for word.

The user `nobody` has the python3 of Debian, the repository as a checkout that belongs to somebody
else, and two terminals. Everything that follows `Install on a cluster` is for a platform engineer:
tests/e2e/cluster.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from os import chown
from pathlib import Path
from textwrap import dedent

import pytest

from scripts.image.debian import ROOT

README = ROOT / "README.md"
GETTING_STARTED = ROOT / "docs" / "getting-started.md"
SERVER = re.compile(r"^keyferry devvault run\b")
"""A command that runs until Ctrl-C, in the second terminal."""
BLOCK = re.compile(r"^( *)```(console|yaml)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"Save this SecretProviderClass as `([\w.-]+)`:$")
TUTORIAL = Path("/tmp/keyferry-tutorial")

pytestmark = pytest.mark.timeout(600)


@dataclass(frozen=True, slots=True)
class Command:
    """A command of a page, and the output that the page shows; `...` matches any text."""

    line: str
    output: str


@dataclass(frozen=True, slots=True)
class File:
    """A file that a page asks the reader to save."""

    name: str
    text: str


Step = Command | File


def section(page: Path, heading: str) -> str:
    """The text below a second-level heading."""
    found = page.read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    assert found, f"{page} has no heading {heading}"
    return found


def steps(text: str) -> Iterator[list[Step]]:
    """What a page asks for, block by block."""
    for found in BLOCK.finditer(text):
        body = dedent(found[3])
        if found[2] == "yaml":
            (name,) = FILE.findall(text[: found.start()].rstrip().splitlines()[-1])
            yield [File(name, body)]
        else:
            parts = (part.partition("\n") for part in re.split(r"(?m)^\$ ", body)[1:])
            yield [Command(line, output) for line, _, output in parts]


class Terminal:
    """A shell of the user, into which one command after the other is typed."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            user="nobody",
            group="nogroup",
            extra_groups=(),
            start_new_session=True,
        )

    def start(self, line: str) -> None:
        """Type a command, and do not wait for its end."""
        assert self._process.stdin
        print(line, file=self._process.stdin, flush=True)

    def run(self, command: Command) -> None:
        """Type a command and wait for its end; it succeeds and prints what the page shows."""
        self.start(f"{command.line}\nprintf '\\n--- %s\\n' $?")
        output = self.read_until(re.compile(r"\n--- (\d+)\n\Z"))
        status = output.split()[-1]
        output = output.rpartition("\n--- ")[0]
        assert "0" == status, f"{command.line}:\n{output}"
        if command.output:
            pattern = re.escape(command.output.strip("\n")).replace(r"\.\.\.", ".*")
            assert re.fullmatch(pattern, output.strip("\n"), re.DOTALL), (
                f"{command.line} printed:\n{output}"
            )

    def read_until(self, pattern: re.Pattern[str]) -> str:
        """Return what the terminal shows, up to and with the pattern."""
        assert self._process.stdout
        output = ""
        while not pattern.search(output):
            line = self._process.stdout.readline()
            assert line, f"the terminal was closed:\n{output}"
            output += line
        return output

    def interrupt(self) -> str:
        """Press Ctrl-C and close the terminal; return what it still shows."""
        os.killpg(self._process.pid, signal.SIGINT)
        output, _ = self._process.communicate(timeout=20)
        return output

    def close(self) -> None:
        """End everything that still runs in the terminal."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()


@dataclass(frozen=True, slots=True)
class User:
    """An ordinary user.

    Attributes:
        home: the home folder, empty at first.
        checkout: the repository; the user can only read it.
        environment: the environment of a terminal.
    """

    home: Path
    checkout: Path
    environment: Mapping[str, str]


@pytest.fixture
def user() -> Iterator[User]:
    """The user `nobody`, with an empty home."""
    nobody = pwd.getpwnam("nobody")
    folder = Path(tempfile.mkdtemp(prefix="keyferry-walk-"))
    try:
        folder.chmod(0o755)
        home, checkout = folder / "home", folder / "keyferry"
        home.mkdir()
        chown(home, nobody.pw_uid, nobody.pw_gid)
        listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        files = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for name in filter(None, files.split("\0")):
            if (ROOT / name).is_file():
                (checkout / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, checkout / name)
        index = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
        yield User(
            home, checkout, index | {"HOME": str(home), "PATH": os.defpath, "LANG": "C.UTF-8"}
        )
    finally:
        shutil.rmtree(folder)
        shutil.rmtree(TUTORIAL, ignore_errors=True)


@contextmanager
def terminals(user: User) -> Iterator[tuple[Terminal, Terminal]]:
    """Two terminals in the checkout."""
    both = Terminal(user.checkout, user.environment), Terminal(user.checkout, user.environment)
    try:
        yield both
    finally:
        for each in both:
            each.close()


def walk(user: User, text: str) -> None:
    """Do what a page asks for: save files, and run commands and compare their output.

    The block with the server is for the second terminal; Ctrl-C follows the last but one block.
    """
    blocks = list(steps(text))
    with terminals(user) as (first, second):
        serving = False
        for block in blocks:
            is_server = SERVER.match(block[-1].line if isinstance(block[-1], Command) else "")
            if serving and block is blocks[-1]:
                assert "has stopped" in second.interrupt()
            for step in block:
                match step:
                    case File(name, content):
                        first.run(Command(f"cat > {name} <<'END'\n{content}END", ""))
                    case Command() if SERVER.match(step.line):
                        second.start(step.line)
                        second.read_until(re.compile("listens"))
                        serving = True
                    case Command():
                        (second if is_server else first).run(step)


def test_the_readme_works_word_for_word(user: User) -> None:
    """One command to install, one to run."""
    text = section(README, "Installation").partition("Install it on a cluster")[0]
    assert 3 == sum(len(block) for block in steps(text))
    walk(user, text)


def test_getting_started_works_word_for_word(user: User) -> None:
    """From the installation to the end of the tutorial; only the installation remains."""
    text = GETTING_STARTED.read_text().partition("\n## Install on a cluster")[0]
    walk(user, text)
    assert not TUTORIAL.exists()
