"""What travels with a call to a vault: its host, caller, priority and deadline. [pure]"""

from __future__ import annotations

from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from msgspec import Struct

from keyferry.errors import Stage
from keyferry.records import replace

if TYPE_CHECKING:
    from collections.abc import Callable

BEST_EFFORT_SECONDS = 20.0
"""After this time a best-effort call starts no further request."""


class Purpose(Enum):
    """Why a vault is called. First mounts have priority over refreshes."""

    FIRST = "first"
    """A pod waits to start."""
    REFRESH = "refresh"
    """A pod runs with content that may be outdated."""


class CallPriority:
    """The priority of one call, shared by all requests that the call sends.

    Args:
        purpose: the initial priority.

    Attributes:
        purpose: the current priority.
    """

    __slots__ = ("_on_promote", "purpose")

    def __init__(self, purpose: Purpose) -> None:
        self.purpose = purpose
        self._on_promote: list[Callable[[], None]] = []

    def promote(self) -> None:
        """Turn a refresh into a first mount, also for requests that already wait for a permit."""
        if self.purpose is Purpose.REFRESH:
            self.purpose = Purpose.FIRST
            for callback in self._on_promote:
                callback()

    def subscribe(self, on_promote: Callable[[], None]) -> None:
        """Call `on_promote` if the call is promoted."""
        self._on_promote.append(on_promote)

    def unsubscribe(self, on_promote: Callable[[], None]) -> None:
        """Undo `subscribe`."""
        self._on_promote.remove(on_promote)


class Caller(Struct, frozen=True):
    """On whose behalf a vault is called. Vaults are shared fairly between callers.

    Attributes:
        tenant: namespace of the pod; "" outside a cluster, and for calls of Keyferry itself.
        identity: service account of the pod; "" if it is unknown.
    """

    tenant: str = ""
    identity: str = ""


KEYFERRY = Caller()
"""The caller of requests that serve all tenants."""


_CACHED_ENDPOINTS = 256
_DEFAULT_PORTS = {"http": 80, "https": 443}


class Endpoint(Struct, frozen=True):
    """Where a request is sent.

    Attributes:
        authority: host in lower case and port, always with a port, or `unix:` and the path of a
            socket. All requests to it share a rate limit.
        connection: differs for requests that a SecretProviderClass can make fail on its own: by
            scheme, path prefix, TLS settings, proxy and namespace.
    """

    authority: str
    connection: int = 0

    @property
    def host(self) -> str:
        """The host, with its port if that is not 443: the name in messages and metrics."""
        return self.authority.removesuffix(":443")


def endpoint_of(url: str, *settings: object) -> Endpoint:
    """Return the endpoint of a URL, or of a host whose scheme is https.

    Args:
        url: the URL, or host and port; or `unix:` and the path of a socket.
        settings: what else a SecretProviderClass can vary about the connection; hashable.
    """
    authority, scheme, path = _parse(url)
    return Endpoint(authority, hash((scheme, path, settings)))


@lru_cache(_CACHED_ENDPOINTS)
def _parse(url: str) -> tuple[str, str, str]:
    """Return authority, scheme and path."""
    if url.startswith("unix:"):
        return url, "", ""
    try:
        parts = urlsplit(url if "://" in url else f"https://{url}")
        host, port = (parts.hostname or "").rstrip("."), parts.port
    except ValueError:
        return url.lower(), "", ""
    name = f"[{host}]" if ":" in host else host
    port = port or _DEFAULT_PORTS.get(parts.scheme, 443)
    return f"{name}:{port}", parts.scheme, parts.path.rstrip("/")


class CallContext(Struct, frozen=True):
    """Passed unchanged from `Fetcher` to the transport.

    Attributes:
        endpoint: where the request is sent.
        mode: the identity mode that calls, a metric label.
        priority: whether a pod waits to start; only `keyferry.resilience` changes it.
        deadline: set for a best-effort call: the time in seconds of the fetcher's clock after which
            the call starts no further request.
        caller: on whose behalf the host is called.
        ignores_circuit: whether the request is sent even if the circuit breaker of the tenant is
            open.
        stage: what the request is for, in messages: IDENTITY for a token or a login, else VAULT.
    """

    endpoint: Endpoint
    mode: str
    priority: CallPriority
    deadline: float | None = None
    caller: Caller = KEYFERRY
    ignores_circuit: bool = False
    stage: Stage = Stage.VAULT

    @classmethod
    def new(
        cls,
        endpoint: Endpoint | str,
        purpose: Purpose = Purpose.FIRST,
        *,
        mode: str = "",
        caller: Caller = KEYFERRY,
        ignores_circuit: bool = False,
        stage: Stage = Stage.VAULT,
    ) -> CallContext:
        """Return the context of a new call; the endpoint of a text is `endpoint_of` it."""
        if isinstance(endpoint, str):
            endpoint = endpoint_of(endpoint)
        return cls(
            endpoint,
            mode,
            CallPriority(purpose),
            caller=caller,
            ignores_circuit=ignores_circuit,
            stage=stage,
        )

    @property
    def purpose(self) -> Purpose:
        """Why the vault is called, as of now."""
        return self.priority.purpose

    def best_effort(self, now: float) -> CallContext:
        """Return the context for an optional call, such as a list that saves other requests.

        Args:
            now: the time in seconds of the fetcher's clock.
        """
        return replace(self, deadline=now + BEST_EFFORT_SECONDS)
