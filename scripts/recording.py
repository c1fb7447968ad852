"""Records `keyferry demo` as an animated SVG, docs/images/demo.svg. `make recording` runs it.

The text is what the demo prints on a terminal. Names and numbers that differ from run to run are
replaced, but for the durations. The pace is that of a reader: one step after the other.
"""

from __future__ import annotations

import argparse
import json
import os
import pty
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from io import FileIO
from pathlib import Path

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "images" / "demo.svg"
TEMPLATE = Path(__file__).with_name("recording_template.svg")
COLUMNS, ROWS = 100, 30
READ_SECONDS = 0.8
"""How long a step is shown, and the same again for each four lines."""
END_SECONDS = 6.0

REPLACEMENTS = (
    (r"/tmp/(keyferry-demo-\w+)", ("keyferry-demo",)),
    (r"sha256 ([0-9a-f]{8})", ("1f0c5b7a", "9d42e86b")),
    (r"process (\d+):", ("4711", "4712")),
)
"""What differs from run to run, in the order in which it is printed, and what stands for it."""


def recorded_output(command: list[str]) -> str:
    """Return what a command writes to a terminal.

    Raises:
        CalledProcessError: the command failed.
    """
    master, slave = pty.openpty()
    with open(master, "rb", buffering=0) as terminal:  # noqa: PTH123 - a file descriptor
        # /tmp, so that the paths are short.
        environment = os.environ | {"TERM": "xterm-256color", "TMPDIR": "/tmp"}
        environment.pop("NO_COLOR", None)
        process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, env=environment
        )
        os.close(slave)
        output = b"".join(chunks(terminal))
        if process.wait():
            raise subprocess.CalledProcessError(process.returncode, command, output)
    return output.decode()


def chunks(terminal: FileIO) -> Iterator[bytes]:
    """Yield what is written to a pseudo terminal until the last process closes it."""
    while True:
        try:
            chunk = terminal.read(4096)
        except OSError:  # Linux reports the end of a terminal as an error
            return
        if not chunk:
            return
        yield chunk


def cast(output: str) -> str:
    """Return an asciicast (version 2): the demo step by step."""
    for pattern, names in REPLACEMENTS:
        found = dict.fromkeys(re.findall(pattern, output))
        for old, new in zip(found, names, strict=True):
            output = re.sub(rf"\b{old}\b", new, output)
    time, lines = 1.2, [json.dumps({"version": 2, "width": COLUMNS, "height": ROWS})]
    lines.append(json.dumps([0.0, "o", "$ keyferry demo\r\n"]))
    for step in re.split(r"(?=\r\n\x1b\[1m\d+\.)", output):
        lines.append(json.dumps([time, "o", step]))
        time += READ_SECONDS * (1 + step.count("\n") / 4)
    return "\n".join(lines) + "\n"


def main() -> None:
    """Record the demo and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=PICTURE)
    target = parser.parse_args().output
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "demo.cast"
        source.write_text(cast(recorded_output([str(ROOT / ".venv/bin/keyferry"), "demo"])))
        termtosvg = [sys.executable, "-m", "termtosvg", "render", str(source), str(target)]
        options = ["--template", str(TEMPLATE), "--loop-delay", str(int(END_SECONDS * 1000))]
        subprocess.run([*termtosvg, *options], check=True)
    print(f"{target}  {target.stat().st_size // 1024} KiB")


if __name__ == "__main__":
    main()
