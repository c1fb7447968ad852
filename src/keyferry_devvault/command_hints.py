"""Writes the commands of `keyferry devvault` that errors and the access log suggest. [pure]"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from pathlib import Path


class CommandHints(Struct, frozen=True):
    """The commands for one data folder.

    Attributes:
        data_folder: the value of `--data`; None: the default folder, without the option.
    """

    data_folder: Path | None = None

    def line(self, *words: str) -> str:
        """Return the command with these words, quoted for a shell, and with `--data`."""
        data = () if self.data_folder is None else ("--data", str(self.data_folder))
        return shlex.join(("keyferry", "devvault", *words, *data))
