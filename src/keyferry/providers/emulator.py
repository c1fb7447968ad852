"""Finds a running development vault through an entry point, without importing its code.

The development vault is a separate distribution, `keyferry-devvault`, that production installations
do not need.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from msgspec import Struct

from keyferry.errors import ConnectionFailedError, PlatformError, Stage

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from keyferry.net.http_client import HttpsSettings

EMULATORS = "keyferry.emulators"
"""Group of the entry point, which is a function from a data directory to an `Emulator`."""

INSTALL_COMMAND = "pip install 'keyferry[devvault]'"


class EmulatorCommands(Struct, frozen=True):
    """Writes the commands of the development vault with the data directory `data_folder`."""

    data_folder: Path

    def line(self, *words: str) -> str:
        """Return the command `keyferry devvault` with `words`, quoted for a shell."""
        return shlex.join(("keyferry", "devvault", *words, "--data", str(self.data_folder)))

    def fault_remedy(self) -> str:
        """Return the remedy for one that runs and does not respond as it should."""
        return (
            f"List latency, throttling and injected faults: {self.line('status')}; reset them: "
            f"{self.line('tune', '--clear')}"
        )

    def not_running_error(self) -> ConnectionFailedError:
        """Return the error of a request or command that needs the development vault."""
        return ConnectionFailedError(
            f"the development vault at {self.data_folder} is not running",
            f"Start it with: {self.line('run')}",
        )


class Emulator(Struct, frozen=True):
    """A running development vault that receives all requests to vaults and token endpoints.

    Attributes:
        https: settings of connections to it. Host names remain those of the cloud.
        https_address: address and port of its TLS listener.
        ca_file: PEM file of the CA that issued its server certificate.
        arc_key_folder: directory in which its Azure Arc agent stores challenge keys.
        is_running: returns whether it is running now; it may have ended since.
    """

    https: HttpsSettings
    https_address: tuple[str, int]
    ca_file: Path
    arc_key_folder: Path
    is_running: Callable[[], bool]

    @property
    def commands(self) -> EmulatorCommands:
        """Its commands, for remedies."""
        return EmulatorCommands(self.ca_file.parent)


def load_emulator(folder: Path) -> Emulator:
    """Return the running emulator with the data directory `folder`.

    Raises:
        PlatformError: the emulator is not installed, or its data directory cannot be used.
        ConnectionFailedError: no emulator runs with this data directory.
    """
    from importlib.metadata import entry_points  # takes 6 ms to import

    for entry_point in entry_points(group=EMULATORS):
        connect: Callable[[Path], Emulator] = entry_point.load()
        return connect(folder)
    raise PlatformError(
        "--dev-vault needs the development vault, which is not installed",
        f"Run: {INSTALL_COMMAND}",
        stage=Stage.REQUEST,
    )
