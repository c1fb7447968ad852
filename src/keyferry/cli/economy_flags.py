"""The flags of the economy of vault calls, for every command that asks vaults."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.cli.goflags import GoFlag, Kind
from keyferry.economy.settings import EconomySettings
from keyferry.errors import Hop, PlatformError

if TYPE_CHECKING:
    from keyferry.cli.goflags import Flags

_DEFAULT = EconomySettings()

ECONOMY_FLAGS: tuple[GoFlag, ...] = (
    GoFlag(
        "fetch-reuse",
        Kind.DURATION,
        f"{_DEFAULT.reuse:g}s",
        "a pod takes what another one of the same identity fetched so long ago; 0: never",
    ),
    GoFlag(
        "fetch-refusals",
        Kind.DURATION,
        f"{_DEFAULT.refusals:g}s",
        "how long it is remembered that an object is missing or refused; 0: not at all",
    ),
    GoFlag(
        "fetch-memory",
        Kind.INT,
        str(_DEFAULT.held_bytes),
        "bytes of content that are held in memory for reuse, at the most",
    ),
    GoFlag(
        "fetch-proofs",
        Kind.BOOL,
        "true" if _DEFAULT.proofs else "false",
        "let one list of a vault prove that many objects have not changed, where that is cheaper",
    ),
    GoFlag(
        "vault-rate",
        Kind.INT,
        f"{_DEFAULT.rate:g}",
        "calls a second from this node to one vault, at the most; 0: no limit",
    ),
    GoFlag(
        "vault-burst",
        Kind.INT,
        str(_DEFAULT.burst),
        "so many calls at once after a quiet time",
    ),
    GoFlag(
        "vault-at-once",
        Kind.INT,
        str(_DEFAULT.at_once),
        "calls to one vault that are under way at the same time, at the most",
    ),
)

_LOWEST = {"vault-burst": 1, "vault-at-once": 1}
"""The least that a flag may be, where that is not 0."""


def economy_settings(flags: Flags) -> EconomySettings:
    """The settings that `flags` ask for.

    Raises:
        PlatformError: a number is too low.
    """
    values = flags.values
    for flag in ECONOMY_FLAGS:
        value, lowest = values[flag.name], _LOWEST.get(flag.name, 0)
        if float(value) < lowest:
            raise PlatformError(
                f"--{flag.name} is {value:g}", f"Give {lowest} or more.", hop=Hop.REQUEST
            )
    return EconomySettings(
        reuse=float(values["fetch-reuse"]),
        refusals=float(values["fetch-refusals"]),
        held_bytes=int(values["fetch-memory"]),
        proofs=bool(values["fetch-proofs"]),
        rate=float(values["vault-rate"]),
        burst=int(values["vault-burst"]),
        at_once=int(values["vault-at-once"]),
    )
