"""What is asked of a vault, and as whom: only equal keys ever share a call or a value. [pure]

They are tuples, because each fetch looks a key up a dozen times, and tuples are hashed and compared
without a line of Python.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable


class IdentityKey(NamedTuple):
    """Everything that decides what a vault lets somebody see; equal means interchangeable.

    Attributes:
        mode: the kind of identity, one of few words: a label of the metrics.
        digest: everything else that could bring another answer or another refusal: token endpoint,
            tenant, client, subject of the service account, a secret, how the vault's certificate is
            checked; as a digest (see `Identities`).
    """

    mode: str
    digest: tuple[str, ...]

    def __repr__(self) -> str:
        """Without the proof, because it ends in logs."""
        return f"{type(self).__name__}(mode={self.mode!r})"


class IdentityHasher:
    """Makes the whole identities of one provider.

    What tells identities apart is not kept, because secrets are part of it; a digest of it is, by a
    key that nobody else has: whoever comes to see one cannot try secrets against it.

    Args:
        key: 32 random bytes.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def identity_key(self, mode: str, parts: Iterable[str]) -> IdentityKey:
        """The identity of this kind that these parts tell from all others."""
        text = "\0".join(f"{len(part)}:{part}" for part in parts)
        digest = blake2b(text.encode(errors="surrogatepass"), key=self._key).hexdigest()
        return IdentityKey(mode, (digest,))


class CacheKey(NamedTuple):
    """One thing in one vault as one identity sees it.

    Attributes:
        vault: the host of the vault, in lower case, with a port where it has an unusual one: what
            shares one budget. A label of the metrics.
        identity: who asks.
        resource: what is asked for, such as object and version, or method, path and arguments.
    """

    vault: str
    identity: IdentityKey
    resource: tuple[str, ...]
