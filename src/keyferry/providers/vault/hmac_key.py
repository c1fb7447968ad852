"""THE STORY of the key that versions are made with: in the Secret, else of this node. Never none.

Upstream reads the Secret with each mount. Here the pods that start together read it once, a refresh
takes what was read a minute ago, and whoever is refused asks seldom. A mount neither fails nor
waits long for it: what was read last goes on to count.

Source: docs/reference/upstream-vault-provider.md#hmac-key
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from keyferry.errors import KeyferryError, PlatformError, Stage
from keyferry.formats.private_files import read_private_file, write_private_file
from keyferry.resilience.call_context import Purpose
from keyferry.telemetry.logs import get_logger

if TYPE_CHECKING:
    from pathlib import Path

    from keyferry.aio.clock import Clock

KEY_BYTES = 32


def load_or_create_key(path: Path) -> bytes:
    """The key in a file, which is made with a random one where there is none.

    Its folder may belong to others, such as /tmp: so a link, a file of another user and one that
    others may read are refused, and left as they are. Of several processes that make it at the same
    time the first one counts for all.

    Raises:
        PlatformError: the file cannot be used or made.
    """
    try:
        found = _read_key_file(path)
        if found is None:
            _create_key_file(path)
            found = _read_key_file(path)
    except OSError as error:
        raise _key_file_error(path, error.strerror or "it cannot be read") from error
    if found is None:
        raise _key_file_error(path, "it was removed at once")
    return found


def _read_key_file(path: Path) -> bytes | None:
    """The key; None where there is no file."""
    try:
        key = read_private_file(path, max_bytes=KEY_BYTES)
    except FileNotFoundError:
        return None
    if len(key) != KEY_BYTES:
        raise _key_file_error(path, f"it does not hold {KEY_BYTES} bytes")
    return key


def _create_key_file(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Another process may have created it first; its key counts.
    with suppress(FileExistsError):
        write_private_file(path, secrets.token_bytes(KEY_BYTES), replace=False)


def _key_file_error(path: Path, problem: str) -> PlatformError:
    return PlatformError(
        f"the key of versions in {path} cannot be used: {problem}",
        "Remove the file, and let the folder belong to the user of Keyferry; it is made anew.",
        stage=Stage.STORE,
    )


LOAD_TIMEOUT_SECONDS = 2.0
"""So long a mount waits for the Secret, at the most."""
FIRST_MOUNT_MAX_AGE_SECONDS = 1.0
"""A pod that starts takes a key that was read so long ago."""
REFRESH_MAX_AGE_SECONDS = 60.0
"""A refresh does."""
UNAVAILABLE_RETRY_SECONDS = 30.0
"""An API that did not answer is left alone so long."""
DENIED_RETRY_SECONDS = 300.0
"""One that refuses, likewise."""

_log = get_logger("vault")


class HmacKeySource(Protocol):
    """Where nodes have a key in common."""

    async def load(self) -> bytes:
        """The key.

        Raises:
            PlatformError: it cannot be had until somebody does something about it.
            KeyferryError: it cannot be had now.
        """


class HmacKey:
    """The key of one provider.

    Args:
        provider: its name, for the log.
        source: where nodes have a key in common; None for nowhere.
        file: the key of this node; None for one of this process.
        clock: how time passes.
    """

    def __init__(
        self, provider: str, source: HmacKeySource | None, file: Path | None, clock: Clock
    ) -> None:
        self._provider = provider
        self._source = source
        self._file = file
        self._clock = clock
        self._shared_key: bytes | None = None
        self._node_key: bytes | None = None
        self._node_key_lock = asyncio.Lock()
        self._next_load = dict.fromkeys(Purpose, float("-inf"))
        self._loading: asyncio.Task[None] | None = None
        self._logged_problem = ""

    def refresh_in_background(self, purpose: Purpose) -> None:
        """A mount has begun: look whether the key has changed, if it is time to."""
        if self._source is None or self._loading is not None:
            return
        if self._clock.monotonic() >= self._next_load[purpose]:
            self._loading = asyncio.create_task(self._load(self._source))
            self._loading.add_done_callback(self._load_done)

    async def get(self) -> bytes:
        """The key, when a look that is under way has ended; raises nothing."""
        if self._loading is not None:
            await asyncio.wait((self._loading,))
        if self._shared_key is not None:
            return self._shared_key
        async with self._node_key_lock:
            if self._node_key is None:
                self._node_key = await self._load_node_key()
        return self._node_key

    async def close(self) -> None:
        """Look no further."""
        if self._loading is not None:
            self._loading.cancel()
            await asyncio.wait((self._loading,))

    async def _load(self, source: HmacKeySource) -> None:
        try:
            async with asyncio.timeout(LOAD_TIMEOUT_SECONDS):
                self._shared_key = await source.load()
        except TimeoutError:
            self._schedule_load(UNAVAILABLE_RETRY_SECONDS, UNAVAILABLE_RETRY_SECONDS)
            self._log_problem("the Kubernetes API does not answer in time", "")
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
        """Look again after so many seconds."""
        now = self._clock.monotonic()
        self._next_load = {Purpose.FIRST: now + first, Purpose.REFRESH: now + refresh}

    def _log_problem(self, problem: str, remedy: str) -> None:
        """Log what keeps us from the Secret, once as long as it lasts."""
        if problem != self._logged_problem:
            self._logged_problem = problem
            kept = "of this node" if self._shared_key is None else "that was read last"
            _log.warning(
                f"versions of objects are made with the key {kept}",
                provider=self._provider,
                error=f"{problem}. {remedy}".strip(),
            )

    async def _load_node_key(self) -> bytes:
        """The key of this node; where its file cannot be used, of this process."""
        if self._file is not None:
            try:
                return await asyncio.to_thread(load_or_create_key, self._file)
            except PlatformError as error:
                _log.warning(
                    "versions of objects are others after each start of this process",
                    provider=self._provider,
                    error=str(error),
                )
        return secrets.token_bytes(KEY_BYTES)
