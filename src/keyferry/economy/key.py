"""What is asked of a vault, and as whom: only equal keys ever share a call or a value. [pure]"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class WholeIdentity:
    """Everything that decides what a vault lets somebody see; equal means interchangeable.

    Attributes:
        mode: the kind of identity, one of few words: a label of the metrics.
        proof: everything else that could bring another answer or another refusal: token endpoint,
            tenant, client, subject of the service account, the fingerprint of a secret, how the
            vault's certificate is checked. Never a secret itself.
    """

    mode: str
    proof: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class FetchKey:
    """One thing in one vault as one identity sees it.

    Attributes:
        vault: the host of the vault, in lower case, with a port where it has an unusual one: what
            shares one budget. A label of the metrics.
        identity: who asks.
        item: what is asked for, such as object and version, or method, path and arguments.
    """

    vault: str
    identity: WholeIdentity
    item: tuple[str, ...]
