"""A Lease that several candidates share, and the network between each candidate and it.

leases = Leases()
election = LeaderElection(leases.client(), ...)
"""

from __future__ import annotations

import asyncio
from typing import Any

from keyferry.kubernetes.api.api_errors import (
    ApiConflictError,
    ApiNotFoundError,
    ApiUnreachableError,
)
from keyferry.kubernetes.api.resources import Resource


class Leases:
    """The API server: one Lease at most.

    Attributes:
        manifest: the Lease, or None.
        writes: the holder of each write.
    """

    def __init__(self) -> None:
        self.manifest: dict[str, Any] | None = None
        self.writes: list[str] = []
        self._version = 0

    def client(self) -> LeaseClient:
        """Return the connection of a candidate."""
        return LeaseClient(self)

    @property
    def holder(self) -> str:
        """The holder of the Lease; "" without one."""
        return str(self.spec.get("holderIdentity", ""))

    @property
    def spec(self) -> dict[str, Any]:
        """The spec of the Lease; empty if it does not exist."""
        return {} if self.manifest is None else self.manifest["spec"]

    def store(self, manifest: dict[str, Any]) -> dict[str, Any]:
        """Store the Lease with a new resourceVersion."""
        self._version += 1
        self.writes.append(manifest["spec"].get("holderIdentity", ""))
        metadata = {**manifest["metadata"], "resourceVersion": str(self._version)}
        self.manifest = {**manifest, "metadata": metadata}
        return self.manifest


class LeaseClient:
    """Implements `LeaseApi` for one candidate.

    Attributes:
        reachable: whether requests arrive.
        hangs: whether requests get no answer, neither a good one nor a bad one.
        loses_answers: whether the server executes writes, and the answers get lost.
        keeps_answers: whether the server executes writes, and the answers never arrive.
        delay: seconds that a request takes.
        requests: verbs of the requests.
    """

    def __init__(self, leases: Leases) -> None:
        self._leases = leases
        self.reachable = True
        self.hangs = False
        self.loses_answers = False
        self.keeps_answers = False
        self.delay = 0.01
        self.requests: list[str] = []

    async def find(self, _: type[Resource], namespace: str, name: str) -> dict[str, Any] | None:
        """Return the Lease."""
        await self._send("get")
        return self._leases.manifest

    async def create(
        self, _: type[Resource], namespace: str, manifest: dict[str, Any]
    ) -> dict[str, Any]:
        """Create the Lease."""
        await self._send("create")
        if self._leases.manifest is not None:
            raise ApiConflictError("the Lease exists")
        return await self._answered(manifest)

    async def replace(
        self, _: type[Resource], namespace: str, name: str, manifest: dict[str, Any]
    ) -> dict[str, Any]:
        """Replace the Lease."""
        await self._send("update")
        there = self._leases.manifest
        if there is None:
            raise ApiNotFoundError("the Lease does not exist")
        if there["metadata"]["resourceVersion"] != manifest["metadata"]["resourceVersion"]:
            raise ApiConflictError("the Lease changed")
        return await self._answered(manifest)

    async def _send(self, verb: str) -> None:
        self.requests.append(verb)
        await asyncio.sleep(self.delay)
        if self.hangs:
            await asyncio.Event().wait()
        if not self.reachable:
            raise ApiUnreachableError("the API cannot be reached")

    async def _answered(self, manifest: dict[str, Any]) -> dict[str, Any]:
        stored = self._leases.store(manifest)
        if self.keeps_answers:
            await asyncio.Event().wait()
        if self.loses_answers:
            raise ApiUnreachableError("the connection was closed")
        return stored
