"""What a provider needs from a privileged process.

With `--isolation=process`, providers run without rights. The driver does for them what needs
the service account of the driver, or files that only root can read. It checks what it is asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from keyferry.errors import InternalError

if TYPE_CHECKING:
    from keyferry.providers.api import PodTokenRequest


class Privileges(Protocol):
    """The privileged side of one provider."""

    async def request_token(self, request: PodTokenRequest) -> str:
        """Request a token from the Kubernetes API.

        Raises:
            IdentityError: no token can be obtained.
        """

    async def load_shared_key(self) -> bytes:
        """Return the HMAC key for object versions that all nodes share.

        Raises:
            PlatformError: the key is unavailable until an operator acts.
            KeyferryError: the key is temporarily unavailable.
        """

    async def load_node_key(self) -> bytes:
        """Return the HMAC key for object versions of this node.

        Raises:
            PlatformError: the file of the key cannot be used.
        """

    async def read_challenge_key(self, path: str) -> str:
        """Return the challenge key of the Azure Arc agent in the file `path`.

        Raises:
            IdentityError: the path is not that of a challenge key, or cannot be read.
        """

    async def load_cluster_ca(self) -> bytes:
        """Return the PEM of the CA of the Kubernetes API; empty if the CAs of the machine apply.

        Raises:
            PlatformError: the file cannot be read.
        """

    async def close(self) -> None:
        """Close connections."""


class NoPrivileges:
    """Implements `Privileges` for a provider that needs some of them or none.

    A provider overrides what it needs; the rest is never called.
    """

    async def request_token(self, request: PodTokenRequest) -> str:
        """Raise an `InternalError`."""
        raise InternalError("this provider requests no tokens")

    async def load_shared_key(self) -> bytes:
        """Raise an `InternalError`."""
        raise InternalError("this provider has no shared HMAC key")

    async def load_node_key(self) -> bytes:
        """Raise an `InternalError`."""
        raise InternalError("this provider has no HMAC key")

    async def read_challenge_key(self, path: str) -> str:
        """Raise an `InternalError`."""
        raise InternalError("this provider reads no challenge key")

    async def load_cluster_ca(self) -> bytes:
        """Raise an `InternalError`."""
        raise InternalError("this provider reads no CA")

    async def close(self) -> None:
        """Do nothing."""
