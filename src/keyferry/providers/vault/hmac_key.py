"""The HMAC key for object versions: from a Secret, else from a file of this node.

Upstream reads the Secret in every mount. Here pods that start together read it once, a refresh uses
a key that is up to a minute old, and a denied read is retried rarely. A mount never fails because
of the key and waits at most `WAIT_SECONDS` for it: if the Secret cannot be read by then, the last
key remains in use. A load that takes longer goes on, for the next mounts.

Source: docs/reference/upstream-vault-provider.md#hmac-key
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress
from contextvars import Context
from typing import TYPE_CHECKING, Protocol

from keyferry.errors import KeyferryError, PlatformError, Stage
from keyferry.formats.private_files import read_private_file, write_private_file
from keyferry.resilience.call_context import Purpose
from keyferry.telemetry.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from keyferry.aio.clock import Clock

KEY_BYTES = 32
"""Length of the keys that Keyferry creates."""


def load_or_create_key(path: Path) -> bytes:
    """Return the key in a file; create the file with a random key if it does not exist.

    The directory may belong to another user, such as /tmp. A symbolic link, a file of another user
    and a file that others can access are therefore rejected and not changed. If several processes
    create the file at the same time, all use the first one.

    Raises:
        PlatformError: the file cannot be used or created.
    """
    try:
        key = _read_key_file(path)
        if key is None:
            _create_key_file(path)
            key = _read_key_file(path)
    except OSError as error:
        raise _key_file_error(path, error.strerror or "it cannot be read") from error
    if key is None:
        raise _key_file_error(path, "it was deleted right after its creation")
    return key


def _read_key_file(path: Path) -> bytes | None:
    """Return the key, or None if the file does not exist."""
    try:
        key = read_private_file(path, max_bytes=KEY_BYTES)
    except FileNotFoundError:
        return None
    if len(key) != KEY_BYTES:
        raise _key_file_error(path, f"it is smaller than {KEY_BYTES} bytes")
    return key


def _create_key_file(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # If another process creates the file first, its key is used.
    with suppress(FileExistsError):
        write_private_file(path, secrets.token_bytes(KEY_BYTES), replace=False)


def _key_file_error(path: Path, problem: str) -> PlatformError:
    return PlatformError(
        f"the HMAC key file {path} cannot be used: {problem}",
        "Delete the file and make Keyferry's user the owner of its directory; Keyferry creates the "
        "file again.",
        stage=Stage.STORE,
    )


WAIT_SECONDS = 2.0
"""Maximum time that a mount waits for the Secret."""
LOAD_TIMEOUT_SECONDS = 10.0
"""Maximum time until the Secret is read or created."""
FIRST_MOUNT_MAX_AGE_SECONDS = 1.0
"""Maximum age of a key for the first mount of a pod."""
REFRESH_MAX_AGE_SECONDS = 60.0
"""Maximum age of a key for a refresh."""
UNAVAILABLE_RETRY_SECONDS = 30.0
"""Delay before the Secret is read again after the API did not respond."""
DENIED_RETRY_SECONDS = 300.0
"""Delay before the Secret is read again after access was denied."""

_TOO_SLOW = "the Kubernetes API did not respond in time"
_log = get_logger("vault")


class HmacKeySource(Protocol):
    """A store of the key that all nodes share."""

    async def load(self) -> bytes:
        """Return the shared key.

        Raises:
            PlatformError: the key is unavailable until an operator acts.
            KeyferryError: the key is temporarily unavailable.
        """


class HmacKey:
    """The HMAC key of one provider.

    It uses the first available of:

    1. the shared key that was read last from `source`;
    2. the key of this node, from its file;
    3. a random key of this process.

    Args:
        provider: name of the provider, for the log.
        source: store of the key that all nodes share; None for none.
        load_node_key: loads the key of this node; None to use a key of this process.
        clock: source of the current time.
    """

    def __init__(
        self,
        provider: str,
        source: HmacKeySource | None,
        load_node_key: Callable[[], Awaitable[bytes]] | None,
        clock: Clock,
    ) -> None:
        self._provider = provider
        self._source = source
        self._load_key = load_node_key
        self._clock = clock
        self._shared_key: bytes | None = None
        self._node_key: bytes | None = None
        self._node_key_lock = asyncio.Lock()
        self._next_load = dict.fromkeys(Purpose, float("-inf"))
        self._loading: asyncio.Task[None] | None = None
        self._loading_since = float("-inf")
        self._logged_problem = ""

    def refresh_in_background(self, purpose: Purpose) -> None:
        """Start to load the shared key, unless it is recent enough for a mount of `purpose`."""
        if self._source is None or self._loading is not None:
            return
        now = self._clock.monotonic()
        if now >= self._next_load[purpose]:
            self._loading_since = now
            self._loading = asyncio.create_task(self._load(self._source), context=Context())
            self._loading.add_done_callback(self._load_done)

    async def get(self) -> bytes:
        """Return the key, after waiting a moment for a load in flight. Never raises."""
        if self._loading is not None:
            left = self._loading_since + WAIT_SECONDS - self._clock.monotonic()
            _, pending = await asyncio.wait((self._loading,), timeout=max(0.0, left))
            if pending:
                self._log_problem(_TOO_SLOW, "")
        if self._shared_key is not None:
            return self._shared_key
        async with self._node_key_lock:
            if self._node_key is None:
                self._node_key = await self._load_node_key()
        return self._node_key

    async def close(self) -> None:
        """Cancel a load in flight."""
        if self._loading is not None:
            self._loading.cancel()
            await asyncio.wait((self._loading,))

    async def _load(self, source: HmacKeySource) -> None:
        try:
            async with asyncio.timeout(LOAD_TIMEOUT_SECONDS):
                self._shared_key = await source.load()
        except TimeoutError:
            self._schedule_load(UNAVAILABLE_RETRY_SECONDS, UNAVAILABLE_RETRY_SECONDS)
            self._log_problem(_TOO_SLOW, "")
        except KeyferryError as error:
            seconds = (
                DENIED_RETRY_SECONDS
                if isinstance(error, PlatformError)
                else UNAVAILABLE_RETRY_SECONDS
            )
            self._schedule_load(seconds, seconds)
            self._log_problem(error.problem, error.remedy)
        else:
            self._schedule_load(FIRST_MOUNT_MAX_AGE_SECONDS, REFRESH_MAX_AGE_SECONDS)
            self._logged_problem = ""

    def _load_done(self, _: asyncio.Task[None]) -> None:
        self._loading = None

    def _schedule_load(self, first: float, refresh: float) -> None:
        """Set the delays in seconds after which a first mount and a refresh load the key again."""
        now = self._clock.monotonic()
        self._next_load = {Purpose.FIRST: now + first, Purpose.REFRESH: now + refresh}

    def _log_problem(self, problem: str, remedy: str) -> None:
        """Log why the shared key cannot be read, once per problem."""
        if problem != self._logged_problem:
            self._logged_problem = problem
            used = "the HMAC key of this node" if self._shared_key is None else "the last HMAC key"
            _log.warning(
                f"cannot read the Secret with the HMAC key; object versions use {used}",
                provider=self._provider,
                error=f"{problem}. {remedy}".strip(),
            )

    async def _load_node_key(self) -> bytes:
        """Return the key of this node, or a key of this process if the file cannot be used."""
        if self._load_key is not None:
            try:
                return await self._load_key()
            except KeyferryError as error:
                _log.warning(
                    "object versions will change on restart: HMAC key file unusable",
                    provider=self._provider,
                    error=str(error),
                )
        return secrets.token_bytes(KEY_BYTES)
