"""The one HTTP client: TLS, time limits, retries, translation of foreign exceptions.

`keyferry.retry` decides about another try, `keyferry.connection_errors` names what went wrong on
the way, and `keyferry.answers` reads what came back; here are the connections and the loop.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, TypeVar, assert_never

import aiohttp
import msgspec

from keyferry.answers import Refusal, busy_error, parse_answer, refusal
from keyferry.connection_errors import connection_problem
from keyferry.connector import new_connector
from keyferry.errors import Hop, KeyferryError, PlatformError, VaultError
from keyferry.retry import RETRY_STATUSES, GiveUp, RetryPolicy, Wait, decide, retry_after_seconds

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    from yarl import URL


class _ConnectionFile(msgspec.Struct):
    """`connection.json` in the data folder of a running development vault."""

    https: str
    http: str
    ca: str


@dataclass(frozen=True, slots=True)
class DevRedirect:
    """Sends every connection to a development vault on loopback, as `curl --connect-to` does.

    URLs, host names and SNI stay those of the cloud; only the TCP connection goes elsewhere, and
    the development CA is trusted instead of the public ones.

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
            PlatformError: no vault runs there, or the file is not ours, or names an address that is
                not loopback.
        """
        path = folder / "connection.json"
        try:
            connection = msgspec.json.decode(path.read_bytes(), type=_ConnectionFile)
            redirect = cls(
                _address(connection.https), _address(connection.http), folder / connection.ca
            )
        except FileNotFoundError as error:
            raise PlatformError(
                f"no development vault is running with its data in {folder} (no {path.name} there)",
                f"Start it with: keyferry devvault run --data {folder}",
                hop=Hop.REQUEST,
            ) from error
        except (OSError, ValueError, msgspec.DecodeError) as error:
            raise PlatformError(
                f"{path} cannot be used: {error}",
                "Start the development vault anew.",
                hop=Hop.REQUEST,
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


T = TypeVar("T")

MAX_ANSWER_BYTES = 1 << 20
"""An answer that is longer is no answer of a vault; a Key Vault secret has at most 25 KiB."""


@dataclass(frozen=True, slots=True)
class Pace:
    """The clocks, the pause and the dice of the retries; a test puts its own in their places."""

    now: Callable[[], float] = time.monotonic
    """Seconds from an arbitrary start."""
    wall: Callable[[], float] = time.time
    """Seconds since the epoch."""
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    """Pause for so many seconds."""
    jitter: Callable[[], float] = random.random
    """A random number from 0 to 1."""


@dataclass(frozen=True, slots=True)
class TryFailed:
    """One try failed, and another may end better.

    Attributes:
        error: what to raise when there is none.
        retry_after: seconds the server asked to wait.
        cause: what `error` is chained to; None where its text could hold a secret value.
    """

    error: KeyferryError
    retry_after: float | None = None
    cause: Exception | None = None


class HttpsClient:
    """The one HTTP client of a process, for one event loop; connections open on first use."""

    def __init__(
        self,
        settings: HttpsSettings,
        *,
        pace: Pace | None = None,
        policy: RetryPolicy | None = None,
    ) -> None:
        self.settings = settings
        self._pace = pace or Pace()
        self._policy = policy or RetryPolicy()
        self._sessions: dict[bool, aiohttp.ClientSession] = {}
        self._connector: aiohttp.TCPConnector | None = None

    def session(self, *, proxied: bool = True) -> aiohttp.ClientSession:
        """The shared session, for libraries that bring their own requests.

        Args:
            proxied: whether the proxies of the environment apply. Link-local services such as IMDS
                are never behind one.

        Raises:
            PlatformError: the CA of the development vault cannot be read.
        """
        if proxied not in self._sessions:
            if self._connector is None:
                dev = self.settings.dev
                self._connector = (
                    new_connector()
                    if dev is None
                    else new_connector(https=dev.https, http=dev.http, ca_file=dev.ca_file)
                )
            self._sessions[proxied] = aiohttp.ClientSession(
                connector=self._connector,
                connector_owner=False,
                trust_env=proxied and self.settings.dev is None,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._sessions[proxied]

    async def close(self) -> None:
        """Close every connection."""
        for session in self._sessions.values():
            await session.close()
        self._sessions.clear()
        if self._connector is not None:
            await self._connector.close()
            self._connector = None

    async def get_json(
        self, url: URL, *, headers: Mapping[str, str], document: type[T], purpose: str
    ) -> T | Refusal:
        """GET `url` and parse its JSON answer, trying again where that can help.

        Args:
            url: absolute, encoded.
            headers: of the request.
            document: what msgspec makes of the answer.
            purpose: the end of the sentence "failed to ...", for messages.

        Raises:
            ConnectionFailedError: no whole answer came; its hop says why.
            VaultThrottledError: 429 to the last, or a pause was asked for that does not fit the
                time limit.
            VaultError: the server failed to the last, or its answer is not the JSON of `document`.
        """

        async def attempt(seconds: float) -> T | Refusal | TryFailed:
            return await self._get_once(url, dict(headers), document, purpose, seconds)

        return await self.retrying(attempt)

    async def retrying(self, attempt: Callable[[float], Awaitable[T | TryFailed]]) -> T:
        """Call `attempt` until it gives a result, or the tries or the time are used up.

        Args:
            attempt: makes one try, which may take the seconds given to it.

        Raises:
            KeyferryError: the error of the last try; whatever `attempt` raises passes through at
                once.
        """
        end = self._pace.now() + self.settings.total_timeout
        failures = 0
        while True:
            left = end - self._pace.now()
            outcome = await attempt(min(self.settings.try_timeout, max(left, 0.001)))
            if not isinstance(outcome, TryFailed):
                return outcome
            failures += 1
            decision = decide(
                self._policy,
                failures=failures,
                left=end - self._pace.now(),
                retry_after=outcome.retry_after,
                jitter=self._pace.jitter(),
            )
            match decision:
                case Wait(seconds):
                    await self._pace.sleep(seconds)
                case GiveUp():
                    if failures > 1:
                        outcome.error.problem += f" ({failures} tries)"
                    raise outcome.error from outcome.cause
                case _:
                    assert_never(decision)

    def retry_after(self, headers: Mapping[str, str]) -> float | None:
        """The pause in seconds that the headers of an answer ask for, if they do."""
        return retry_after_seconds(headers, now=self._pace.wall())

    async def _get_once(
        self, url: URL, headers: dict[str, str], document: type[T], purpose: str, seconds: float
    ) -> T | Refusal | TryFailed:
        timeout = aiohttp.ClientTimeout(total=seconds, connect=self.settings.connect_timeout)
        host = url.host or str(url)
        try:
            async with self.session().get(
                url, headers=headers, timeout=timeout, allow_redirects=False
            ) as response:
                body = await _read_limited(response, host=host, purpose=purpose)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            problem = connection_problem(error, host=host)
            if not problem.transient:
                raise problem.error(purpose) from error
            return TryFailed(problem.error(purpose), cause=error)
        if response.status in RETRY_STATUSES:
            pause = self.retry_after(response.headers)
            return TryFailed(
                busy_error(response.status, host=host, purpose=purpose, pause=pause), pause
            )
        if response.status != 200:
            return refusal(response.status, response.headers, body)
        return parse_answer(body, document, host=host, purpose=purpose)


async def _read_limited(response: aiohttp.ClientResponse, *, host: str, purpose: str) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_chunked(1 << 16):
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise VaultError(
                f"failed to {purpose}: {host} sends more than {MAX_ANSWER_BYTES} bytes",
                f"Check that {host} is a vault and that no proxy answers instead.",
            )
    return bytes(body)
