"""Flags of the response cache and of the limits per vault, for every command that calls vaults."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.cli.flags.go_flags import FlagKind, GoFlag
from keyferry.errors import SettingInvalidError
from keyferry.resilience.settings import ResilienceSettings

if TYPE_CHECKING:
    from keyferry.cli.flags.go_flags import ParsedFlags

_DEFAULTS = ResilienceSettings()

RESILIENCE_FLAGS: tuple[GoFlag, ...] = (
    GoFlag(
        "cache-ttl",
        FlagKind.DURATION,
        f"{_DEFAULTS.cache_ttl:g}s",
        "how long a fetched object is reused for pods with the same identity; 0 disables the cache",
    ),
    GoFlag(
        "negative-cache-ttl",
        FlagKind.DURATION,
        f"{_DEFAULTS.negative_cache_ttl:g}s",
        "how long a response 'not found' or 'denied' is cached; 0 disables the negative cache",
    ),
    GoFlag(
        "cache-max-bytes",
        FlagKind.INT,
        str(_DEFAULTS.cache_max_bytes),
        "maximum size of the response cache, in bytes",
    ),
    GoFlag(
        "list-revalidation",
        FlagKind.BOOL,
        "true" if _DEFAULTS.list_revalidation else "false",
        "detect changes of many objects with one list request, where that needs fewer requests",
    ),
    GoFlag(
        "vault-qps",
        FlagKind.INT,
        f"{_DEFAULTS.qps:g}",
        "maximum requests per second to one vault; 0 means no limit",
    ),
    GoFlag(
        "vault-burst",
        FlagKind.INT,
        str(_DEFAULTS.burst),
        "burst size of the rate limit, in requests",
    ),
    GoFlag(
        "vault-max-concurrency",
        FlagKind.INT,
        str(_DEFAULTS.max_concurrency),
        "maximum concurrent requests to one vault",
    ),
)

_MINIMUMS = {"vault-burst": 1, "vault-max-concurrency": 1}
"""The lowest accepted value of a flag, where it is not 0."""


def resilience_settings(flags: ParsedFlags) -> ResilienceSettings:
    """Return the settings that `flags` request.

    Raises:
        SettingInvalidError: a value is too low.
    """
    values = flags.values
    for flag in RESILIENCE_FLAGS:
        value, minimum = values[flag.name], _MINIMUMS.get(flag.name, 0)
        if float(value) < minimum:
            raise SettingInvalidError(
                f"--{flag.name} is {value:g}", f"Set it to {minimum} or more."
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
