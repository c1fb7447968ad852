"""The Secret of a SecretSync in a Kubernetes API, and everybody who writes to it."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

from keyferry.errors import StoreUnavailableError
from keyferry.kubernetes.api.client import KubeApi, ListOptions
from keyferry.kubernetes.api.resources import SecretResource
from keyferry.kubernetes.api.secret_store import SecretStore
from keyferry.kubernetes.api.watches.changes import Changed, Removed, Resume
from keyferry.kubernetes.markings import SYNC_FIELD_MANAGER
from keyferry.kubernetes.objects import ApplyResult, DesiredSecret, OwnerReference, SyncClaim
from keyferry.kubernetes.syncs.groups import UPSTREAM_GROUP
from keyferry.records import replace

FORMER_MANAGER = f"v1-{SYNC_FIELD_MANAGER}"
"""The field manager of upstream's v0.0.4."""
OWNER = OwnerReference(str(UPSTREAM_GROUP), "SecretSync", "db", "0d3b3c1e-sync")
POD_STATUS = OwnerReference(
    "secrets-store.csi.x-k8s.io/v1", "SecretProviderClassPodStatus", "web-0-shop-web", "5c0e-status"
)
SECRET = DesiredSecret(
    namespace="shop",
    name="db",
    type="Opaque",
    data={"password": b"canary\xff\n", "user": b"me"},
    labels={"environment": "test"},
    annotations={"note": "yes"},
    owners=(OWNER,),
    claim=SyncClaim(OWNER),
)


def reference(owner: OwnerReference) -> dict[str, str]:
    """Return an owner as in a manifest."""
    return {
        "apiVersion": owner.api_version,
        "kind": owner.kind,
        "name": owner.name,
        "uid": owner.uid,
    }


def manifest(data: Mapping[str, bytes], **metadata: Any) -> dict[str, Any]:
    """Return the manifest of the Secret, as somebody else writes it."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "db", "namespace": "shop", **metadata},
        "type": "Opaque",
        "data": {key: b64encode(value).decode() for key, value in data.items()},
    }


def desired(*, data: Mapping[str, bytes] | None = None, **claim: Any) -> DesiredSecret:
    """Return the Secret with other data, for another claim."""
    made = SyncClaim(**{"owner": OWNER, **claim})
    wanted = SECRET.data if data is None else data
    return replace(SECRET, data=wanted, owners=(made.owner,), claim=made)


@dataclass
class SyncedSecretCluster:
    """An API, and its users.

    Attributes:
        api: the client of all of them.
        store: writes the Secret.
        checks: how often the store asked whether it may write.
        refuses: the number of the check that is refused; 0 for none.
    """

    api: KubeApi
    checks: int = 0
    refuses: int = 0
    store: SecretStore = field(init=False)

    def __post_init__(self) -> None:
        self.store = SecretStore(self.api, self._check)

    def _check(self) -> None:
        self.checks += 1
        if self.checks == self.refuses:
            raise StoreUnavailableError("another replica leads")

    async def sync(self, secret: DesiredSecret = SECRET) -> ApplyResult:
        """Write the Secret of the SecretSync."""
        return await self.store.apply_secret(secret)

    async def read(self) -> dict[str, Any]:
        """Return the Secret."""
        found: Any = await self.api.find(SecretResource, "shop", "db")
        assert found is not None
        return dict(found)

    async def data(self) -> dict[str, bytes]:
        """Return its decoded data."""
        return {key: b64decode(value) for key, value in (await self.read())["data"].items()}

    async def managers(self) -> set[str]:
        """Return its field managers."""
        entries = (await self.read())["metadata"]["managedFields"]
        return {entry["manager"] for entry in entries}

    async def apply(self, content: Mapping[str, Any], manager: str = "kubectl") -> None:
        """Server-side apply the Secret, as another client does."""
        await self.api.apply(
            SecretResource, "shop", "db", dict(content), force=True, field_manager=manager
        )

    async def edit(self, patch: Mapping[str, Any]) -> None:
        """Change the Secret, as `kubectl edit` does."""
        await self.api.strategic_merge(
            SecretResource, "shop", "db", dict(patch), field_manager="kubectl-edit"
        )

    async def delete(self) -> None:
        """Delete the Secret."""
        metadata = (await self.read())["metadata"]
        version = metadata["resourceVersion"]
        await self.api.delete(
            SecretResource, "shop", "db", uid=metadata["uid"], resource_version=version
        )

    @contextmanager
    def counted(self, method: str) -> Iterator[list[str]]:
        """Yield the calls of a method of the client in the block."""
        original, calls = getattr(self.api, method), list[str]()

        async def call(*args: Any, **options: Any) -> Any:
            calls.append(method)
            return await original(*args, **options)

        setattr(self.api, method, call)
        try:
            yield calls
        finally:
            delattr(self.api, method)

    @contextmanager
    def interrupted(self, method: str, action: Callable[[], Awaitable[None]]) -> Iterator[None]:
        """Run `action` once in the block: after the next call of this method of the client."""
        original, pending = getattr(self.api, method), [action]

        async def call(*args: Any, **options: Any) -> Any:
            result = await original(*args, **options)
            if pending:
                await pending.pop()()
            return result

        setattr(self.api, method, call)
        try:
            yield
        finally:
            delattr(self.api, method)
        assert not pending

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[list[dict[str, Any] | None]]:
        """Yield what the existing Secret becomes in the block, after it; None: it was deleted."""
        seen: list[dict[str, Any] | None] = []
        start = (await self.read())["metadata"]["resourceVersion"]
        yield seen
        end = (await self.read())["metadata"]["resourceVersion"]
        if start == end:
            return
        options = ListOptions(SecretResource, "shop")
        async for change in self.api.watch(options, Resume(start)):
            if not isinstance(change, Changed | Removed):
                continue
            found: Any = change.manifest
            seen.append(None if isinstance(change, Removed) else found)
            if found["metadata"]["resourceVersion"] == end:
                return


def owner_uids(found: Mapping[str, Any]) -> list[str]:
    """Return the uids of its owners."""
    return [owner["uid"] for owner in found["metadata"].get("ownerReferences", [])]
