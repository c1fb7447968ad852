"""The one HTTP client: TLS, time limits, retries, and the translation of foreign exceptions into ours."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import msgspec

from keyferry.errors import Hop, PlatformError


class _ConnectionFile(msgspec.Struct):
    """`connection.json` in the data folder of a running development vault."""

    https: str
    http: str
    ca: str


@dataclass(frozen=True, slots=True)
class DevRedirect:
    """Sends every connection to a development vault on loopback, as `curl --connect-to` does.

    URLs, host names and SNI stay those of the cloud; only the TCP connection goes elsewhere, and the development CA is
    trusted instead of the public ones.

    Attributes:
        https: (address, port) for https URLs, whatever their host.
        http: (address, port) for http URLs; IMDS is the one that matters.
        ca_file: the PEM file of the development CA.
    """

    https: tuple[str, int]
    http: tuple[str, int]
    ca_file: Path

    @classmethod
    def read(cls, folder: Path) -> DevRedirect:
        """The redirection to the development vault whose data folder is `folder`.

        Raises:
            PlatformError: no vault runs there, or the file is not ours, or names an address that is not loopback.
        """
        path = folder / "connection.json"
        try:
            connection = msgspec.json.decode(path.read_bytes(), type=_ConnectionFile)
            redirect = cls(_address(connection.https), _address(connection.http), folder / connection.ca)
        except FileNotFoundError as error:
            raise PlatformError(
                f"no development vault is running with its data in {folder} (no {path.name} there)",
                f"Start it with: keyferry devvault run --data {folder}",
                hop=Hop.REQUEST,
            ) from error
        except (OSError, ValueError, msgspec.DecodeError) as error:
            raise PlatformError(
                f"{path} cannot be used: {error}", "Start the development vault anew.", hop=Hop.REQUEST
            ) from error
        return redirect


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not ip_address(host.strip("[]")).is_loopback:
        raise ValueError(f"{text!r} is not a loopback address")
    return host.strip("[]"), int(port)


@dataclass(frozen=True, slots=True)
class HttpsSettings:
    """How connections to vaults are made. All times in seconds."""

    dev: DevRedirect | None = None
    """Set by `--dev-vault` only."""
    connect_timeout: float = 5.0
    """For DNS, TCP and TLS together."""
    try_timeout: float = 15.0
    """For one request and its answer."""
    total_timeout: float = 60.0
    """For one request with all its retries; kubelet gives a mount 120."""
