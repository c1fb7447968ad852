"""Write docs/operations/common-mistakes.md: make every mistake and show what Keyferry prints."""

from __future__ import annotations

import sys

from tests.integration.mistakes.page import generate
from tests.integration.mistakes.world import running_world

if __name__ == "__main__":
    with running_world() as world:
        sys.stdout.write(generate(world))
