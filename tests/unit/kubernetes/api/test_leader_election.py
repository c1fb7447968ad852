"""keyferry.kubernetes.api.syncs.leader_election: one leader at a time, whatever fails."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from keyferry.kubernetes.api.syncs.leader_election import SoleLeader, new_identity
from tests.fakes.leases import Leases
from tests.fakes.log import captured_log
from tests.fakes.virtual_time import virtual_time
from tests.unit.kubernetes.api.candidates import Candidate, leader_and_candidate, overlap, until

# --- one leader -----------------------------------------------------------------------------------


@virtual_time
async def test_first_candidate_leads() -> None:
    """It creates the Lease, and renews it."""
    leases = Leases()
    one = Candidate(leases, "one")
    one.start()
    await until(lambda: one.works)
    assert one.election.is_leader
    assert one.changes == [True]
    assert leases.spec["holderIdentity"] == "one"
    assert leases.spec["leaseDurationSeconds"] == 15
    assert leases.spec["leaseTransitions"] == 0
    await asyncio.sleep(60)
    assert one.starts == 1
    assert len(leases.writes) == pytest.approx(30, abs=2)
    assert one.network.requests.count("get") == 1, "a renewal is one request"
    await one.stop()


@virtual_time
async def test_of_racing_candidates_one_leads() -> None:
    """All of them create and replace the Lease at the same time."""
    leases = Leases()
    candidates = [Candidate(leases, f"c{number}") for number in range(10)]
    for candidate in candidates:
        candidate.start()
    await asyncio.sleep(120)
    (leader,) = [candidate for candidate in candidates if candidate.starts]
    assert leader.starts == 1
    assert set(leases.writes) == {leader.election.identity}
    await leader.stop()
    await until(lambda: any(candidate.works for candidate in candidates))
    assert len([candidate for candidate in candidates if candidate.works]) == 1
    for candidate in candidates:
        if candidate is not leader:
            await candidate.stop()


@virtual_time
async def test_released_lease_is_taken_at_once() -> None:
    """Within the retry period, after the work of the leader has ended."""
    leases = Leases()
    one, two = await leader_and_candidate(leases)
    await asyncio.sleep(30)
    one.cleanup = 20.0
    await one.stop()
    assert not one.works
    assert not overlap(one, two), "the Lease is renewed while the work ends"
    assert leases.holder == ""
    assert leases.spec["leaseDurationSeconds"] == 1
    assert await until(lambda: two.works) <= 2.1
    assert one.changes == [True, False]
    assert leases.spec["leaseTransitions"] == 1
    await two.stop()


@pytest.mark.parametrize("offset", [0.0, 0.5, 1.0, 1.5, 1.9])
@pytest.mark.parametrize("lifetime", [60.0, 60.4, 60.8, 61.2, 61.6])
def test_killed_leader_is_replaced_when_its_lease_expires(offset: float, lifetime: float) -> None:
    """17 seconds at most: the duration, and one retry to notice the last renewal."""

    @virtual_time
    async def run() -> None:
        leases = Leases()
        one, two = Candidate(leases, "one"), Candidate(leases, "two")
        one.start()
        await until(lambda: one.works)
        await asyncio.sleep(offset)
        two.start()
        await asyncio.sleep(lifetime)
        one.kill()
        assert 12.9 <= await until(lambda: two.works) <= 17.1
        assert not overlap(one, two)
        for candidate in (one, two):
            await candidate.stop()

    run()


@virtual_time
async def test_restarted_process_is_another_candidate() -> None:
    """It must not believe that it still holds the Lease of its predecessor."""
    assert new_identity("pod-1") != new_identity("pod-1")
    assert new_identity("pod-1").startswith("pod-1_")


# --- failures -------------------------------------------------------------------------------------


@virtual_time
async def test_partitioned_leader_stops_before_another_one_starts() -> None:
    """Whether requests fail or hang."""
    for hangs in (False, True):
        leases = Leases()
        one, two = Candidate(leases, "one"), Candidate(leases, "two")
        one.start()
        await until(lambda: one.works)  # noqa: B023 - runs in this iteration
        two.start()
        await asyncio.sleep(31)
        one.network.reachable, one.network.hangs = False, hangs
        stopped = await until(lambda: not one.works)  # noqa: B023 - runs in this iteration
        assert stopped <= 10.1
        assert not two.works
        assert one.changes == [True, False]
        await until(lambda: two.works)  # noqa: B023 - runs in this iteration
        assert not overlap(one, two)
        one.network.reachable, one.network.hangs = True, False
        await asyncio.sleep(60)
        assert two.works
        assert not one.works
        for candidate in (one, two):
            await candidate.stop()


@virtual_time
async def test_paused_leader_does_not_write_when_it_continues() -> None:
    """The process was stopped for a minute: no task has run, but the clock has."""
    leases = Leases()
    one, two = await leader_and_candidate(leases)
    await asyncio.sleep(10)
    writes = len(one.writes)
    one.clock.paused = 60.0
    one.write()
    assert len(one.writes) == writes
    await one.stop()
    await two.stop()


@virtual_time
async def test_short_outage_of_the_api_changes_nothing() -> None:
    """Shorter than the renew deadline; the failure is logged once."""
    leases = Leases()
    one, two = await leader_and_candidate(leases)
    await asyncio.sleep(20)
    with captured_log() as log:
        for candidate in (one, two):
            candidate.network.reachable = False
        await asyncio.sleep(7)
        for candidate in (one, two):
            candidate.network.reachable = True
        await asyncio.sleep(60)
    assert one.starts == 1
    assert two.starts == 0
    assert log.getvalue().count("failed to read or write the lease") == 2
    for candidate in (one, two):
        await candidate.stop()


@virtual_time
async def test_after_a_long_outage_one_of_them_leads_again() -> None:
    """While the API is unavailable, nobody works."""
    leases = Leases()
    one, two = await leader_and_candidate(leases)
    for candidate in (one, two):
        candidate.network.reachable = False
    await asyncio.sleep(300)
    assert not one.works
    assert not two.works
    for candidate in (one, two):
        candidate.network.reachable = True
    await until(lambda: one.works or two.works)
    await asyncio.sleep(60)
    assert one.works != two.works
    for candidate in (one, two):
        await candidate.stop()


@virtual_time
async def test_clocks_that_differ_by_an_hour_do_not_matter() -> None:
    """Neither does the candidate ahead take the Lease, nor does the one behind wait for an hour."""
    for skew in (timedelta(hours=1), timedelta(hours=-1)):
        leases = Leases()
        one, two = Candidate(leases, "one"), Candidate(leases, "two", skew=skew)
        one.start()
        await until(lambda: one.works)  # noqa: B023 - runs in this iteration
        two.start()
        await asyncio.sleep(120)
        assert two.starts == 0
        one.kill()
        assert await until(lambda: two.works) <= 17.1  # noqa: B023 - runs in this iteration
        assert not overlap(one, two)
        for candidate in (one, two):
            await candidate.stop()


@virtual_time
async def test_wall_clock_that_jumps_does_not_matter() -> None:
    """The leader keeps leading, and the candidate keeps waiting."""
    leases = Leases()
    one, two = await leader_and_candidate(leases)
    await asyncio.sleep(10)
    for hours in (5, -5):
        one.clock.skew = timedelta(hours=hours)
        await asyncio.sleep(60)
    assert (one.starts, two.starts) == (1, 0)
    for candidate in (one, two):
        await candidate.stop()


@virtual_time
async def test_lost_answer_to_a_write_does_not_lose_the_lease() -> None:
    """The resourceVersion is unknown then, so the next renewal reads the Lease first."""
    leases = Leases()
    one = Candidate(leases, "one")
    one.start()
    await until(lambda: one.works)
    await asyncio.sleep(5)
    one.network.loses_answers = True
    await asyncio.sleep(5)
    one.network.loses_answers = False
    await asyncio.sleep(60)
    assert one.starts == 1
    await one.stop()


@virtual_time
async def test_lost_answer_to_the_first_write_still_leads_to_a_leader() -> None:
    """The Lease names this process, so it renews it."""
    leases = Leases()
    one = Candidate(leases, "one")
    one.network.loses_answers = True
    one.start()
    await asyncio.sleep(10)
    assert not one.works
    assert leases.holder == "one"
    one.network.loses_answers = False
    await until(lambda: one.works)
    await one.stop()


@virtual_time
async def test_leader_stops_at_once_when_somebody_else_holds_the_lease() -> None:
    """For example because a person has edited it."""
    leases = Leases()
    one = Candidate(leases, "one")
    one.start()
    await until(lambda: one.works)
    assert leases.manifest is not None
    spec = {**leases.spec, "holderIdentity": "somebody"}
    leases.store({**leases.manifest, "spec": spec})
    assert await until(lambda: not one.works) <= 2.2
    assert one.election.holder == "somebody"
    await one.stop()
    assert leases.holder == "somebody", "what others hold is not released"


@virtual_time
async def test_annotated_lease_is_renewed_all_the_same() -> None:
    """Its resourceVersion changed, but not its holder."""
    leases = Leases()
    one = Candidate(leases, "one")
    one.start()
    await until(lambda: one.works)
    assert leases.manifest is not None
    annotated = {**leases.manifest["metadata"], "annotations": {"a": "b"}}
    leases.store({**leases.manifest, "metadata": annotated})
    await asyncio.sleep(30)
    assert one.starts == 1
    assert leases.manifest["metadata"]["annotations"] == {"a": "b"}
    await one.stop()


@virtual_time
async def test_deleted_lease_is_created_again_by_its_holder() -> None:
    """A candidate that has seen the holder waits until its Lease would have expired."""
    leases = Leases()
    one, two = await leader_and_candidate(leases)
    await asyncio.sleep(10)
    for _ in range(20):
        leases.manifest = None
        await asyncio.sleep(3.3)
    assert (one.starts, two.starts) == (1, 0)
    for candidate in (one, two):
        await candidate.stop()


@virtual_time
async def test_slow_api_does_not_lose_the_lease() -> None:
    """Each request takes three seconds."""
    leases = Leases()
    one, two = Candidate(leases, "one"), Candidate(leases, "two")
    for candidate in (one, two):
        candidate.network.delay = 3.0
    one.start()
    await until(lambda: one.works)
    two.start()
    await asyncio.sleep(120)
    assert (one.starts, two.starts) == (1, 0)
    for candidate in (one, two):
        await candidate.stop()


# --- the work -------------------------------------------------------------------------------------


@pytest.mark.parametrize("holder", ["one", "somebody"])
@virtual_time
async def test_a_lease_that_changed_is_released_if_it_is_still_held(holder: str) -> None:
    """A renewal that the end of the work cancelled may have been written."""
    leases = Leases()
    one = Candidate(leases, "one")
    one.start()
    await until(lambda: one.works)
    assert leases.manifest is not None
    leases.store({**leases.manifest, "spec": {**leases.spec, "holderIdentity": holder}})
    with captured_log() as log:
        await one.stop()
    assert leases.holder == ("" if holder == "one" else "somebody")
    assert "failed" not in log.getvalue()
    assert (holder == "one") == ("lease released" in log.getvalue())


@pytest.mark.parametrize("holder", ["one", "somebody"])
@pytest.mark.parametrize("exists", [False, True])
@virtual_time
async def test_an_acquisition_that_was_cancelled_is_released(holder: str, exists: bool) -> None:
    """The API server may have executed it; if it did not, another process may hold the Lease."""
    leases = Leases()
    if exists:
        before = Candidate(leases, "before")
        await before.election.run(lambda: asyncio.sleep(1))
    one = Candidate(leases, "one")
    one.network.keeps_answers = True
    one.start()
    await until(lambda: leases.holder == "one")
    one.network.keeps_answers = False
    assert not one.election.is_leader
    assert leases.manifest is not None
    leases.store({**leases.manifest, "spec": {**leases.spec, "holderIdentity": holder}})
    with captured_log() as log:
        await one.stop()
    assert leases.holder == ("" if holder == "one" else "somebody")
    assert "failed" not in log.getvalue()
    assert (holder == "one") == ("lease released" in log.getvalue())
    assert one.changes == []


@virtual_time
async def test_a_release_without_an_answer_is_reported() -> None:
    """The next leader waits until the Lease expires."""
    leases = Leases()
    one = Candidate(leases, "one")
    one.start()
    await until(lambda: one.works)
    one.network.hangs = True
    with captured_log() as log:
        await one.stop()
    assert "failed to release the lease" in log.getvalue()
    assert "lease released" not in log.getvalue()


@virtual_time
async def test_work_that_ends_releases_the_lease() -> None:
    """And `run` returns."""
    leases = Leases()
    one = Candidate(leases, "one")
    await one.election.run(lambda: asyncio.sleep(3))
    assert leases.holder == ""
    assert not one.election.is_leader


@virtual_time
async def test_work_that_fails_releases_the_lease() -> None:
    """And `run` raises its error."""

    async def fail() -> None:
        raise RuntimeError("a defect")

    leases = Leases()
    one = Candidate(leases, "one")
    with pytest.raises(RuntimeError, match="a defect"):
        await one.election.run(fail)
    assert leases.holder == ""


@virtual_time
async def test_work_cut_short_by_a_second_cancellation_keeps_the_lease() -> None:
    """The work may still write, so nobody else may start before the Lease expires."""
    leases = Leases()
    one = Candidate(leases, "one")
    one.cleanup = 1000.0
    one.start()
    await until(lambda: one.works)
    assert one.task is not None
    one.task.cancel()
    await asyncio.sleep(1)
    one.task.cancel()
    await asyncio.wait([one.task])
    assert one.works
    assert leases.holder == "one"


@virtual_time
async def test_shutdown_during_an_outage_ends() -> None:
    """The release is tried for a few seconds."""
    leases = Leases()
    one = Candidate(leases, "one")
    one.start()
    await until(lambda: one.works)
    one.network.hangs = True
    started = asyncio.get_running_loop().time()
    await one.stop()
    assert asyncio.get_running_loop().time() - started <= 3.1
    assert leases.holder == "one"


@virtual_time
async def test_candidate_that_never_led_releases_nothing() -> None:
    """It must not take the Lease from the leader."""
    leases = Leases()
    one, two = await leader_and_candidate(leases)
    await asyncio.sleep(10)
    await two.stop()
    assert leases.holder == "one"
    assert two.changes == []
    assert set(two.network.requests) == {"get"}
    await one.stop()


@virtual_time
async def test_without_an_election_the_process_always_leads() -> None:
    """One replica needs no Lease."""
    sole, changes = SoleLeader(), list[bool]()
    sole.on_change.append(changes.append)
    assert sole.is_leader
    await sole.run(lambda: asyncio.sleep(1))
    assert changes == [True]
