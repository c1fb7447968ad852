"""Keys of shared requests and cached responses: which object, read as which identity. [pure]

Only equal keys share a request or a response. Keys are tuples because each fetch looks a key up
several times, and tuples are hashed and compared in C.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable


class IdentityKey(NamedTuple):
    """Everything that decides what a vault lets a caller read. Equal keys are interchangeable.

    Attributes:
        mode: the kind of identity, a metric label with few values.
        digest: a keyed digest of everything else that could lead to a different response: token
            endpoint, tenant, client, service account, credential, TLS settings (see
            `IdentityHasher`).
    """

    mode: str
    digest: tuple[str, ...]

    def __repr__(self) -> str:
        """Return a text without the digest, because it may be logged."""
        return f"{type(self).__name__}(mode={self.mode!r})"


class IdentityHasher:
    """Creates the identity keys of one provider.

    Identities include secrets, so only keyed digests of them are stored. Someone who sees a digest
    cannot check guesses of a secret against it without the key.

    Args:
        key: 32 random bytes.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def identity_key(self, mode: str, parts: Iterable[str]) -> IdentityKey:
        """Return the key of an identity.

        Args:
            mode: the kind of identity.
            parts: everything that distinguishes the identity from others of its kind.
        """
        text = "\0".join(f"{len(part)}:{part}" for part in parts)
        digest = blake2b(text.encode(errors="surrogatepass"), key=self._key).hexdigest()
        return IdentityKey(mode, (digest,))


class CacheKey(NamedTuple):
    """One object of one vault, as one identity reads it.

    Attributes:
        vault: the host of the vault in lower case, with its port if that is not 443. Requests to
            one host share a rate limit; a metric label.
        identity: the caller.
        resource: the object, for example its type, name and version, or method, path and arguments.
    """

    vault: str
    identity: IdentityKey
    resource: tuple[str, ...]
