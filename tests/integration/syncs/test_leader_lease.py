"""keyferry.kubernetes.api.syncs.leader_election over HTTP: the Lease of the Kubernetes API."""

from __future__ import annotations

import asyncio

from keyferry.aio.clock import SystemClock
from keyferry.kubernetes.api.client import KubeApi
from keyferry.kubernetes.api.syncs.leader_election import LeaderElection
from keyferry.kubernetes.syncs.lease import LeaseTiming
from tests.fakes.kube_api import KubeApiServer

FAST = LeaseTiming(duration=3.0, renew_deadline=2.0, retry=0.05)


def candidate(api: KubeApi, name: str) -> LeaderElection:
    return LeaderElection(
        api,
        namespace="keyferry",
        name="keyferry-sync",
        identity=name,
        clock=SystemClock(),
        timing=FAST,
    )


async def test_lease_passes_from_one_leader_to_the_next(
    server: KubeApiServer, api: KubeApi
) -> None:
    """Three candidates lead one after the other."""
    leaders: list[str] = []

    async def lead(election: LeaderElection) -> None:
        async def work() -> None:
            assert election.is_leader
            leaders.append(election.identity)
            await asyncio.sleep(0.2)
            lease = server.get("leases", "keyferry", "keyferry-sync")
            assert lease is not None
            assert lease["spec"]["holderIdentity"] == election.identity
            assert election.is_leader

        await election.run(work)

    await asyncio.gather(*(lead(candidate(api, name)) for name in ("a", "b", "c")))
    assert sorted(leaders) == ["a", "b", "c"]
    lease = server.get("leases", "keyferry", "keyferry-sync")
    assert lease is not None
    assert lease["spec"]["holderIdentity"] == ""
    assert lease["spec"]["leaseTransitions"] == 2
    assert "update leases" in server.requests


async def test_leader_stops_when_the_api_stops(server: KubeApiServer, api: KubeApi) -> None:
    """And leads again when it is back."""
    election = candidate(api, "a")
    changes: list[bool] = []
    lost, again = asyncio.Event(), asyncio.Event()

    def record(leads: bool) -> None:
        changes.append(leads)
        (again if leads else lost).set()

    async def work() -> None:
        await asyncio.Event().wait()

    task = asyncio.create_task(election.run(work))
    while not election.is_leader:  # noqa: ASYNC110 - the election sends no notification yet
        await asyncio.sleep(0.01)
    election.on_change.append(record)
    await server.stop()
    await lost.wait()
    assert not election.is_leader
    await server.start()
    await again.wait()
    assert changes == [False, True]
    task.cancel()
    await asyncio.wait([task])
