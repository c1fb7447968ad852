"""THE STORY of the key that versions are made with: in the Secret, else of this node. Never none.

Source: vault, section 1.9. Upstream reads the Secret with each mount. Here the pods that start
together read it once, a refresh takes what was read a minute ago, and whoever is refused asks
seldom. A mount neither fails nor waits long for it: what was read last goes on to count.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Protocol

from keyferry.contract import Purpose
from keyferry.errors import KeyferryError, PlatformError
from keyferry.logs import get_logger
from keyferry.vault.key_file import KEY_BYTES, key_in_file

if TYPE_CHECKING:
    from pathlib import Path

    from keyferry.clocks import Clock

LOOK_SECONDS = 2.0
"""So long a mount waits for the Secret, at the most."""
FIRST_SECONDS = 1.0
"""A pod that starts takes a key that was read so long ago."""
REFRESH_SECONDS = 60.0
"""A refresh does."""
AWAY_SECONDS = 30.0
"""An API that did not answer is left alone so long."""
REFUSED_SECONDS = 300.0
"""One that refuses, likewise."""

_log = get_logger("vault")


class KeySource(Protocol):
    """Where nodes have a key in common."""

    async def key(self) -> bytes:
        """The key.

        Raises:
            PlatformError: it cannot be had until somebody does something about it.
            KeyferryError: it cannot be had now.
        """


class VersionKey:
    """The key of one provider.

    Args:
        provider: its name, for the log.
        source: where nodes have a key in common; None for nowhere.
        file: the key of this node; None for one of this process.
        clock: how time passes.
    """

    def __init__(
        self, provider: str, source: KeySource | None, file: Path | None, clock: Clock
    ) -> None:
        self._provider = provider
        self._source = source
        self._file = file
        self._clock = clock
        self._shared: bytes | None = None
        self._own: bytes | None = None
        self._reading_own = asyncio.Lock()
        self._due = dict.fromkeys(Purpose, float("-inf"))
        self._looking: asyncio.Task[None] | None = None
        self._told = ""

    def begin(self, purpose: Purpose) -> None:
        """A mount has begun: look whether the key has changed, if it is time to."""
        if self._source is None or self._looking is not None:
            return
        if self._clock.monotonic() >= self._due[purpose]:
            self._looking = asyncio.create_task(self._look(self._source))
            self._looking.add_done_callback(self._looked)

    async def get(self) -> bytes:
        """The key, when a look that is under way has ended; raises nothing."""
        if self._looking is not None:
            await asyncio.wait((self._looking,))
        if self._shared is not None:
            return self._shared
        async with self._reading_own:
            if self._own is None:
                self._own = await self._own_key()
        return self._own

    async def close(self) -> None:
        """Look no further."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait((self._looking,))

    async def _look(self, source: KeySource) -> None:
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                self._shared = await source.key()
        except TimeoutError:
            self._wait(AWAY_SECONDS, AWAY_SECONDS)
            self._tell("the Kubernetes API does not answer in time", "")
        except KeyferryError as error:
            seconds = REFUSED_SECONDS if isinstance(error, PlatformError) else AWAY_SECONDS
            self._wait(seconds, seconds)
            self._tell(error.problem, error.remedy)
        else:
            self._wait(FIRST_SECONDS, REFRESH_SECONDS)
            self._told = ""

    def _looked(self, _: asyncio.Task[None]) -> None:
        self._looking = None

    def _wait(self, first: float, refresh: float) -> None:
        """Look again after so many seconds."""
        now = self._clock.monotonic()
        self._due = {Purpose.FIRST: now + first, Purpose.REFRESH: now + refresh}

    def _tell(self, problem: str, remedy: str) -> None:
        """Log what keeps us from the Secret, once as long as it lasts."""
        if problem != self._told:
            self._told = problem
            kept = "of this node" if self._shared is None else "that was read last"
            _log.warning(
                f"versions of objects are made with the key {kept}",
                provider=self._provider,
                error=f"{problem}. {remedy}".strip(),
            )

    async def _own_key(self) -> bytes:
        """The key of this node; where its file cannot be used, of this process."""
        if self._file is not None:
            try:
                return await asyncio.to_thread(key_in_file, self._file)
            except PlatformError as error:
                _log.warning(
                    "versions of objects are others after each start of this process",
                    provider=self._provider,
                    error=str(error),
                )
        return secrets.token_bytes(KEY_BYTES)
