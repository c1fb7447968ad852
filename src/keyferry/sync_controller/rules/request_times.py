"""When requests for a refresh were first seen. [pure]

Content must be newer than the request. All SecretSyncs of a SecretProviderClass share its request,
so that they also share the call to the vault.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keyferry.kubernetes.objects import SecretProviderClass
    from keyferry.kubernetes.syncs.objects import SecretSync


class RequestTimes:
    """Remembers the marks of requests. Times are seconds of the monotonic clock.

    Args:
        since: the time of marks that were there when their object was first seen. Nothing was
            fetched before.
    """

    def __init__(self, since: float) -> None:
        self._since = since
        self._seen: dict[str, tuple[str, float]] = {}

    def see(self, sync: SecretSync, spc: SecretProviderClass, now: float) -> float:
        """Note the marks of both objects; return the time of the last request.

        Args:
            sync: the SecretSync.
            spc: its SecretProviderClass.
            now: the time.
        """
        own = f"{sync.force_synchronization}/{sync.options.refresh_mark}"
        return max(
            self._seen_at(sync.ref.uid, own, now),
            self._seen_at(f"{spc.namespace}/{spc.name}", spc.refresh_mark, now),
        )

    def forget(self, uid: str) -> None:
        """Forget a SecretSync."""
        self._seen.pop(uid, None)

    def _seen_at(self, key: str, mark: str, now: float) -> float:
        known = self._seen.get(key)
        if known is not None and known[0] == mark:
            return known[1]
        at = self._since if known is None else now
        self._seen[key] = mark, at
        return at
