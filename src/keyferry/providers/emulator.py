"""Finds a running development vault through an entry point, without importing its code.

The development vault is a separate distribution, `keyferry-devvault`, that production installations
do not need.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from keyferry.errors import PlatformError, Stage

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from keyferry.net.http_client import HttpsSettings

EMULATORS = "keyferry.emulators"
"""Group of the entry point, which is a function from a data directory to an `Emulator`."""

INSTALL_COMMAND = "pip install 'keyferry[devvault]'"


@dataclass(frozen=True, slots=True)
class Emulator:
    """A running development vault that receives all requests to vaults and token endpoints.

    Attributes:
        https: settings of connections to it. Host names remain those of the cloud.
        https_address: address and port of its TLS listener.
        ca_file: PEM file of the CA that issued its server certificate.
        arc_key_folder: directory in which its Azure Arc agent stores challenge keys.
    """

    https: HttpsSettings
    https_address: tuple[str, int]
    ca_file: Path
    arc_key_folder: Path

    @property
    def data_folder(self) -> Path:
        """Its data directory, the value of `--data` in its commands."""
        return self.ca_file.parent


def load_emulator(folder: Path) -> Emulator:
    """Return the running emulator with the data directory `folder`.

    Raises:
        PlatformError: the emulator is not installed, or none runs with this data directory.
    """
    for entry_point in entry_points(group=EMULATORS):
        connect: Callable[[Path], Emulator] = entry_point.load()
        return connect(folder)
    raise PlatformError(
        "--dev-vault needs the development vault, which is not installed",
        f"Run: {INSTALL_COMMAND}",
        stage=Stage.REQUEST,
    )
