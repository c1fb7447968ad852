"""The flags of the economy of vault calls, for every command that asks vaults."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.cli.flags.go_flags import FlagKind, GoFlag
from keyferry.errors import PlatformError, Stage
from keyferry.resilience.settings import ResilienceSettings

if TYPE_CHECKING:
    from keyferry.cli.flags.go_flags import ParsedFlags

_DEFAULTS = ResilienceSettings()

RESILIENCE_FLAGS: tuple[GoFlag, ...] = (
    GoFlag(
        "cache-ttl",
        FlagKind.DURATION,
        f"{_DEFAULTS.cache_ttl:g}s",
        "a pod takes what another one of the same identity fetched so long ago; 0: never",
    ),
    GoFlag(
        "negative-cache-ttl",
        FlagKind.DURATION,
        f"{_DEFAULTS.negative_cache_ttl:g}s",
        "how long it is remembered that an object is missing or refused; 0: not at all",
    ),
    GoFlag(
        "cache-max-bytes",
        FlagKind.INT,
        str(_DEFAULTS.cache_max_bytes),
        "bytes of content that are held in memory for reuse, at the most",
    ),
    GoFlag(
        "list-revalidation",
        FlagKind.BOOL,
        "true" if _DEFAULTS.list_revalidation else "false",
        "let one list of a vault prove that many objects have not changed, where that is cheaper",
    ),
    GoFlag(
        "vault-qps",
        FlagKind.INT,
        f"{_DEFAULTS.qps:g}",
        "calls a second from this node to one vault, at the most; 0: no limit",
    ),
    GoFlag(
        "vault-burst",
        FlagKind.INT,
        str(_DEFAULTS.burst),
        "so many calls at once after a quiet time",
    ),
    GoFlag(
        "vault-max-concurrency",
        FlagKind.INT,
        str(_DEFAULTS.max_concurrency),
        "calls to one vault that are under way at the same time, at the most",
    ),
)

_MINIMUMS = {"vault-burst": 1, "vault-max-concurrency": 1}
"""The least that a flag may be, where that is not 0."""


def resilience_settings(flags: ParsedFlags) -> ResilienceSettings:
    """The settings that `flags` ask for.

    Raises:
        PlatformError: a number is too low.
    """
    values = flags.values
    for flag in RESILIENCE_FLAGS:
        value, lowest = values[flag.name], _MINIMUMS.get(flag.name, 0)
        if float(value) < lowest:
            raise PlatformError(
                f"--{flag.name} is {value:g}", f"Give {lowest} or more.", stage=Stage.REQUEST
            )
    return ResilienceSettings(
        cache_ttl=float(values["cache-ttl"]),
        negative_cache_ttl=float(values["negative-cache-ttl"]),
        cache_max_bytes=int(values["cache-max-bytes"]),
        list_revalidation=bool(values["list-revalidation"]),
        qps=float(values["vault-qps"]),
        burst=int(values["vault-burst"]),
        max_concurrency=int(values["vault-max-concurrency"]),
    )
