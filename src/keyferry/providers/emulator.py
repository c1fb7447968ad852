"""The development vault as providers see it, and how it is found: by an entry point, when asked.

It is a distribution of its own, `keyferry-devvault`, which production installations do without.
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
"""The group of the entry point; what it names takes a data folder and returns an `Emulator`."""

INSTALL_COMMAND = "pip install 'keyferry[devvault]'"


@dataclass(frozen=True, slots=True)
class Emulator:
    """A running development vault that receives all requests to vaults and token endpoints.

    Attributes:
        https: how connections to it are made; host names stay those of the cloud.
        https_address: (address, port) of its TLS port.
        ca_file: the PEM file of the CA that issued its server certificate.
        arc_key_folder: the folder in which its Azure Arc agent puts challenge keys.
    """

    https: HttpsSettings
    https_address: tuple[str, int]
    ca_file: Path
    arc_key_folder: Path


def load_emulator(folder: Path) -> Emulator:
    """Return the emulator whose data folder is `folder`.

    Raises:
        PlatformError: the emulator is not installed, or none runs with this data folder.
    """
    for entry_point in entry_points(group=EMULATORS):
        connect: Callable[[Path], Emulator] = entry_point.load()
        return connect(folder)
    raise PlatformError(
        "--dev-vault needs the development vault, which is not installed",
        f"Run: {INSTALL_COMMAND}",
        stage=Stage.REQUEST,
    )
